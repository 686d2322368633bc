//! Every node kind of a parse tree and all that hangs below it.
//!
//! Each kind names all of its fields: those in the first brackets are walked, those in the second are plain values. A
//! field that is in neither does not compile, nor does a kind that is in no list, so that nothing is passed over in
//! silence when the grammar grows.

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Part, Parts, Walker};

macro_rules! parts {
    ($($kind:ident($type:ident): [$($part:ident)*] [$($rest:ident)*];)*) => {
        $(
            impl<'a> Parts<'a> for pb::$type {
                fn parts(&'a self, w: &mut Walker<'a>) {
                    parts!(@of $type self w [$($part)*] [$($rest)*]);
                }
            }
        )*

        /// Walks what hangs below a node; false for a kind that PostgreSQL makes only after parsing, so that it
        /// cannot be here.
        pub(super) fn below<'a>(kind: &'a K, w: &mut Walker<'a>) -> bool {
            match kind {
                $(K::$kind(node) => node.parts(w),)*
                K::Var(_) | K::Param(_) | K::Aggref(_) | K::WindowFunc(_) | K::WindowFuncRunCondition(_)
                    | K::SubscriptingRef(_) | K::FuncExpr(_) | K::OpExpr(_) | K::DistinctExpr(_)
                    | K::NullIfExpr(_) | K::ScalarArrayOpExpr(_) | K::SubPlan(_) | K::AlternativeSubPlan(_)
                    | K::FieldSelect(_) | K::FieldStore(_) | K::RelabelType(_) | K::CoerceViaIo(_)
                    | K::ArrayCoerceExpr(_) | K::ConvertRowtypeExpr(_) | K::CollateExpr(_)
                    | K::CaseTestExpr(_) | K::ArrayExpr(_) | K::RowCompareExpr(_)
                    | K::JsonConstructorExpr(_) | K::JsonExpr(_) | K::JsonTablePath(_)
                    | K::JsonTablePathScan(_) | K::JsonTableSiblingJoin(_) | K::MergeAction(_)
                    | K::CoerceToDomain(_) | K::CoerceToDomainValue(_) | K::NextValueExpr(_)
                    | K::InferenceElem(_) | K::ReturningExpr(_) | K::TargetEntry(_) | K::RangeTblRef(_)
                    | K::FromExpr(_) | K::OnConflictExpr(_) | K::Query(_) | K::RangeTblEntry(_)
                    | K::RtepermissionInfo(_) | K::RangeTblFunction(_) | K::TableSampleClause(_)
                    | K::WithCheckOption(_) | K::SortGroupClause(_) | K::WindowClause(_)
                    | K::RowMarkClause(_) | K::SetOperationStmt(_) | K::TableFunc(_) | K::InlineCodeBlock(_)
                    | K::CallContext(_) | K::IntList(_) | K::OidList(_) => return false,
            }
            true
        }
    };
    (@of $type:ident $self:ident $w:ident [] []) => {
        let _ = (&$self, &$w);
    };
    (@of $type:ident $self:ident $w:ident [$($part:ident)*] [$($rest:ident)*]) => {
        let pb::$type { $($part,)* $($rest: _,)* } = $self;
        let _ = &$w;
        $($part.visit($w);)*
    };
}

parts! {
    Alias(Alias): [colnames] [aliasname];
    RangeVar(RangeVar): [alias] [catalogname schemaname relname inh relpersistence location];
    IntoClause(IntoClause): [rel col_names options view_query]
        [access_method on_commit table_space_name skip_data];
    GroupingFunc(GroupingFunc): [xpr args refs] [agglevelsup location];
    MergeSupportFunc(MergeSupportFunc): [xpr] [msftype msfcollid location];
    NamedArgExpr(NamedArgExpr): [xpr arg] [name argnumber location];
    BoolExpr(BoolExpr): [xpr args] [boolop location];
    SubLink(SubLink): [xpr testexpr oper_name subselect] [sub_link_type sub_link_id location];
    CaseExpr(CaseExpr): [xpr arg args defresult] [casetype casecollid location];
    CaseWhen(CaseWhen): [xpr expr result] [location];
    RowExpr(RowExpr): [xpr args colnames] [row_typeid row_format location];
    CoalesceExpr(CoalesceExpr): [xpr args] [coalescetype coalescecollid location];
    MinMaxExpr(MinMaxExpr): [xpr args] [minmaxtype minmaxcollid inputcollid op location];
    SqlvalueFunction(SqlValueFunction): [xpr] [op r#type typmod location];
    XmlExpr(XmlExpr): [xpr named_args arg_names args] [op name xmloption indent r#type typmod location];
    JsonFormat(JsonFormat): [] [format_type encoding location];
    JsonReturning(JsonReturning): [format] [typid typmod];
    JsonValueExpr(JsonValueExpr): [raw_expr formatted_expr format] [];
    JsonIsPredicate(JsonIsPredicate): [expr format] [item_type unique_keys location];
    JsonBehavior(JsonBehavior): [expr] [btype coerce location];
    NullTest(NullTest): [xpr arg] [nulltesttype argisrow location];
    BooleanTest(BooleanTest): [xpr arg] [booltesttype location];
    SetToDefault(SetToDefault): [xpr] [type_id type_mod collation location];
    CurrentOfExpr(CurrentOfExpr): [xpr] [cvarno cursor_name cursor_param];
    JoinExpr(JoinExpr): [larg rarg using_clause join_using_alias quals alias] [jointype is_natural rtindex];
    TypeName(TypeName): [names typmods array_bounds] [type_oid setof pct_type typemod location];
    ColumnRef(ColumnRef): [fields] [location];
    ParamRef(ParamRef): [] [number location];
    AExpr(AExpr): [name lexpr rexpr] [kind rexpr_list_start rexpr_list_end location];
    TypeCast(TypeCast): [arg type_name] [location];
    CollateClause(CollateClause): [arg collname] [location];
    RoleSpec(RoleSpec): [] [roletype rolename location];
    FuncCall(FuncCall): [funcname args agg_order agg_filter over]
        [agg_within_group agg_star agg_distinct func_variadic funcformat location];
    AStar(AStar): [] [];
    AIndices(AIndices): [lidx uidx] [is_slice];
    AIndirection(AIndirection): [arg indirection] [];
    AArrayExpr(AArrayExpr): [elements] [list_start list_end location];
    ResTarget(ResTarget): [indirection val] [name location];
    MultiAssignRef(MultiAssignRef): [source] [colno ncolumns];
    SortBy(SortBy): [node use_op] [sortby_dir sortby_nulls location];
    WindowDef(WindowDef): [partition_clause order_clause start_offset end_offset]
        [name refname frame_options location];
    RangeSubselect(RangeSubselect): [subquery alias] [lateral];
    RangeFunction(RangeFunction): [functions alias coldeflist] [lateral ordinality is_rowsfrom];
    RangeTableFunc(RangeTableFunc): [docexpr rowexpr namespaces columns alias] [lateral location];
    RangeTableFuncCol(RangeTableFuncCol): [type_name colexpr coldefexpr]
        [colname for_ordinality is_not_null location];
    RangeTableSample(RangeTableSample): [relation method args repeatable] [location];
    ColumnDef(ColumnDef): [type_name raw_default cooked_default identity_sequence coll_clause constraints
        fdwoptions]
        [colname compression inhcount is_local is_not_null is_from_type storage storage_name identity
        generated coll_oid location];
    TableLikeClause(TableLikeClause): [relation] [options relation_oid];
    IndexElem(IndexElem): [expr collation opclass opclassopts] [name indexcolname ordering nulls_ordering];
    DefElem(DefElem): [arg] [defnamespace defname defaction location arg_location];
    LockingClause(LockingClause): [locked_rels] [strength wait_policy];
    XmlSerialize(XmlSerialize): [expr type_name] [xmloption indent location];
    PartitionElem(PartitionElem): [expr collation opclass] [name location];
    PartitionSpec(PartitionSpec): [part_params] [strategy location];
    PartitionBoundSpec(PartitionBoundSpec): [listdatums lowerdatums upperdatums]
        [strategy is_default modulus remainder location];
    PartitionRangeDatum(PartitionRangeDatum): [value] [kind location];
    PartitionCmd(PartitionCmd): [name bound] [concurrent];
    GroupingSet(GroupingSet): [content] [kind location];
    WithClause(WithClause): [ctes] [recursive location];
    InferClause(InferClause): [index_elems where_clause] [conname location];
    OnConflictClause(OnConflictClause): [infer target_list where_clause] [action location];
    CtesearchClause(CteSearchClause): [search_col_list] [search_breadth_first search_seq_column location];
    CtecycleClause(CteCycleClause): [cycle_col_list cycle_mark_value cycle_mark_default]
        [cycle_mark_column cycle_path_column location cycle_mark_type cycle_mark_typmod cycle_mark_collation
        cycle_mark_neop];
    CommonTableExpr(CommonTableExpr): [aliascolnames ctequery search_clause cycle_clause ctecolnames
        ctecoltypes ctecoltypmods ctecolcollations]
        [ctename ctematerialized location cterecursive cterefcount];
    MergeWhenClause(MergeWhenClause): [condition target_list values] [match_kind command_type r#override];
    ReturningOption(ReturningOption): [] [option value location];
    ReturningClause(ReturningClause): [options exprs] [];
    TriggerTransition(TriggerTransition): [] [name is_new is_table];
    JsonOutput(JsonOutput): [type_name returning] [];
    JsonArgument(JsonArgument): [val] [name];
    JsonFuncExpr(JsonFuncExpr): [context_item pathspec passing output on_empty on_error]
        [op column_name wrapper quotes location];
    JsonTablePathSpec(JsonTablePathSpec): [string] [name name_location location];
    JsonTable(JsonTable): [context_item pathspec passing columns on_error alias] [lateral location];
    JsonTableColumn(JsonTableColumn): [type_name pathspec format columns on_empty on_error]
        [coltype name wrapper quotes location];
    JsonKeyValue(JsonKeyValue): [key value] [];
    JsonParseExpr(JsonParseExpr): [expr output] [unique_keys location];
    JsonScalarExpr(JsonScalarExpr): [expr output] [location];
    JsonSerializeExpr(JsonSerializeExpr): [expr output] [location];
    JsonObjectConstructor(JsonObjectConstructor): [exprs output] [absent_on_null unique location];
    JsonArrayConstructor(JsonArrayConstructor): [exprs output] [absent_on_null location];
    JsonArrayQueryConstructor(JsonArrayQueryConstructor): [query output format] [absent_on_null location];
    JsonAggConstructor(JsonAggConstructor): [output agg_filter agg_order over] [location];
    JsonObjectAgg(JsonObjectAgg): [constructor arg] [absent_on_null unique];
    JsonArrayAgg(JsonArrayAgg): [constructor arg] [absent_on_null];
    AlterTableCmd(AlterTableCmd): [newowner def] [subtype name num behavior missing_ok recurse];
    AtalterConstraint(AtAlterConstraint): []
        [conname alter_enforceability is_enforced alter_deferrability deferrable initdeferred
        alter_inheritability noinherit];
    ObjectWithArgs(ObjectWithArgs): [objname objargs objfuncargs] [args_unspecified];
    AccessPriv(AccessPriv): [cols] [priv_name];
    Constraint(Constraint): [raw_expr keys including exclusions options where_clause pktable fk_attrs
        pk_attrs fk_del_set_cols old_conpfeqop]
        [contype conname deferrable initdeferred is_enforced skip_validation initially_valid is_no_inherit
        cooked_expr generated_when generated_kind nulls_not_distinct without_overlaps indexname indexspace
        reset_default_tblspc access_method fk_with_period pk_with_period fk_matchtype fk_upd_action
        fk_del_action old_pktable_oid location];
    CreateOpClassItem(CreateOpClassItem): [name order_family class_args storedtype] [itemtype number];
    StatsElem(StatsElem): [expr] [name];
    FunctionParameter(FunctionParameter): [arg_type defexpr] [name mode location];
    VacuumRelation(VacuumRelation): [relation va_cols] [oid];
    PublicationTable(PublicationTable): [relation where_clause columns] [];
    PublicationObjSpec(PublicationObjSpec): [pubtable] [pubobjtype name location];
    Integer(Integer): [] [ival];
    Float(Float): [] [fval];
    Boolean(Boolean): [] [boolval];
    String(String): [] [sval];
    BitString(BitString): [] [bsval];
    List(List): [items] [];
    AConst(AConst): [] [isnull location val];
    RawStmt(RawStmt): [stmt] [stmt_location stmt_len];
    InsertStmt(InsertStmt): [relation cols select_stmt on_conflict_clause returning_clause with_clause]
        [r#override];
    DeleteStmt(DeleteStmt): [relation using_clause where_clause returning_clause with_clause] [];
    UpdateStmt(UpdateStmt): [relation target_list where_clause from_clause returning_clause with_clause] [];
    MergeStmt(MergeStmt): [relation source_relation join_condition merge_when_clauses returning_clause
        with_clause]
        [];
    SelectStmt(SelectStmt): [distinct_clause into_clause target_list from_clause where_clause group_clause
        having_clause window_clause values_lists sort_clause limit_offset limit_count locking_clause
        with_clause larg rarg]
        [group_distinct limit_option op all];
    ReturnStmt(ReturnStmt): [returnval] [];
    PlassignStmt(PlAssignStmt): [indirection val] [name nnames location];
    CreateSchemaStmt(CreateSchemaStmt): [authrole schema_elts] [schemaname if_not_exists];
    AlterTableStmt(AlterTableStmt): [relation cmds] [objtype missing_ok];
    ReplicaIdentityStmt(ReplicaIdentityStmt): [] [identity_type name];
    AlterCollationStmt(AlterCollationStmt): [collname] [];
    AlterDomainStmt(AlterDomainStmt): [type_name def] [subtype name behavior missing_ok];
    GrantStmt(GrantStmt): [objects privileges grantees grantor]
        [is_grant targtype objtype grant_option behavior];
    GrantRoleStmt(GrantRoleStmt): [granted_roles grantee_roles opt grantor] [is_grant behavior];
    AlterDefaultPrivilegesStmt(AlterDefaultPrivilegesStmt): [options action] [];
    CopyStmt(CopyStmt): [relation query attlist options where_clause] [is_from is_program filename];
    VariableSetStmt(VariableSetStmt): [args] [kind name jumble_args is_local location];
    VariableShowStmt(VariableShowStmt): [] [name];
    CreateStmt(CreateStmt): [relation table_elts inh_relations partbound partspec of_typename constraints
        nnconstraints options]
        [oncommit tablespacename access_method if_not_exists];
    CreateTableSpaceStmt(CreateTableSpaceStmt): [owner options] [tablespacename location];
    DropTableSpaceStmt(DropTableSpaceStmt): [] [tablespacename missing_ok];
    AlterTableSpaceOptionsStmt(AlterTableSpaceOptionsStmt): [options] [tablespacename is_reset];
    AlterTableMoveAllStmt(AlterTableMoveAllStmt): [roles]
        [orig_tablespacename objtype new_tablespacename nowait];
    CreateExtensionStmt(CreateExtensionStmt): [options] [extname if_not_exists];
    AlterExtensionStmt(AlterExtensionStmt): [options] [extname];
    AlterExtensionContentsStmt(AlterExtensionContentsStmt): [object] [extname action objtype];
    CreateFdwStmt(CreateFdwStmt): [func_options options] [fdwname];
    AlterFdwStmt(AlterFdwStmt): [func_options options] [fdwname];
    CreateForeignServerStmt(CreateForeignServerStmt): [options]
        [servername servertype version fdwname if_not_exists];
    AlterForeignServerStmt(AlterForeignServerStmt): [options] [servername version has_version];
    CreateForeignTableStmt(CreateForeignTableStmt): [base_stmt options] [servername];
    CreateUserMappingStmt(CreateUserMappingStmt): [user options] [servername if_not_exists];
    AlterUserMappingStmt(AlterUserMappingStmt): [user options] [servername];
    DropUserMappingStmt(DropUserMappingStmt): [user] [servername missing_ok];
    ImportForeignSchemaStmt(ImportForeignSchemaStmt): [table_list options]
        [server_name remote_schema local_schema list_type];
    CreatePolicyStmt(CreatePolicyStmt): [table roles qual with_check] [policy_name cmd_name permissive];
    AlterPolicyStmt(AlterPolicyStmt): [table roles qual with_check] [policy_name];
    CreateAmStmt(CreateAmStmt): [handler_name] [amname amtype];
    CreateTrigStmt(CreateTrigStmt): [relation funcname args columns when_clause transition_rels constrrel]
        [replace isconstraint trigname row timing events deferrable initdeferred];
    CreateEventTrigStmt(CreateEventTrigStmt): [whenclause funcname] [trigname eventname];
    AlterEventTrigStmt(AlterEventTrigStmt): [] [trigname tgenabled];
    CreatePlangStmt(CreatePLangStmt): [plhandler plinline plvalidator] [replace plname pltrusted];
    CreateRoleStmt(CreateRoleStmt): [options] [stmt_type role];
    AlterRoleStmt(AlterRoleStmt): [role options] [action];
    AlterRoleSetStmt(AlterRoleSetStmt): [role setstmt] [database];
    DropRoleStmt(DropRoleStmt): [roles] [missing_ok];
    CreateSeqStmt(CreateSeqStmt): [sequence options] [owner_id for_identity if_not_exists];
    AlterSeqStmt(AlterSeqStmt): [sequence options] [for_identity missing_ok];
    DefineStmt(DefineStmt): [defnames args definition] [kind oldstyle if_not_exists replace];
    CreateDomainStmt(CreateDomainStmt): [domainname type_name coll_clause constraints] [];
    CreateOpClassStmt(CreateOpClassStmt): [opclassname opfamilyname datatype items] [amname is_default];
    CreateOpFamilyStmt(CreateOpFamilyStmt): [opfamilyname] [amname];
    AlterOpFamilyStmt(AlterOpFamilyStmt): [opfamilyname items] [amname is_drop];
    DropStmt(DropStmt): [objects] [remove_type behavior missing_ok concurrent];
    TruncateStmt(TruncateStmt): [relations] [restart_seqs behavior];
    CommentStmt(CommentStmt): [object] [objtype comment];
    SecLabelStmt(SecLabelStmt): [object] [objtype provider label];
    DeclareCursorStmt(DeclareCursorStmt): [query] [portalname options];
    ClosePortalStmt(ClosePortalStmt): [] [portalname];
    FetchStmt(FetchStmt): [] [direction how_many portalname ismove];
    IndexStmt(IndexStmt): [relation index_params index_including_params options where_clause exclude_op_names]
        [idxname access_method table_space idxcomment index_oid old_number old_create_subid
        old_first_relfilelocator_subid unique nulls_not_distinct primary isconstraint iswithoutoverlaps
        deferrable initdeferred transformed concurrent if_not_exists reset_default_tblspc];
    CreateStatsStmt(CreateStatsStmt): [defnames stat_types exprs relations]
        [stxcomment transformed if_not_exists];
    AlterStatsStmt(AlterStatsStmt): [defnames stxstattarget] [missing_ok];
    CreateFunctionStmt(CreateFunctionStmt): [funcname parameters return_type options sql_body]
        [is_procedure replace];
    AlterFunctionStmt(AlterFunctionStmt): [func actions] [objtype];
    DoStmt(DoStmt): [args] [];
    CallStmt(CallStmt): [funccall funcexpr outargs] [];
    RenameStmt(RenameStmt): [relation object] [rename_type relation_type subname newname behavior missing_ok];
    AlterObjectDependsStmt(AlterObjectDependsStmt): [relation object] [object_type extname remove];
    AlterObjectSchemaStmt(AlterObjectSchemaStmt): [relation object] [object_type newschema missing_ok];
    AlterOwnerStmt(AlterOwnerStmt): [relation object newowner] [object_type];
    AlterOperatorStmt(AlterOperatorStmt): [opername options] [];
    AlterTypeStmt(AlterTypeStmt): [type_name options] [];
    RuleStmt(RuleStmt): [relation where_clause actions] [rulename event instead replace];
    NotifyStmt(NotifyStmt): [] [conditionname payload payload_location];
    ListenStmt(ListenStmt): [] [conditionname];
    UnlistenStmt(UnlistenStmt): [] [conditionname];
    TransactionStmt(TransactionStmt): [options] [kind savepoint_name gid chain location];
    CompositeTypeStmt(CompositeTypeStmt): [typevar coldeflist] [];
    CreateEnumStmt(CreateEnumStmt): [type_name vals] [];
    CreateRangeStmt(CreateRangeStmt): [type_name params] [];
    AlterEnumStmt(AlterEnumStmt): [type_name]
        [old_val new_val new_val_neighbor new_val_is_after skip_if_new_val_exists];
    ViewStmt(ViewStmt): [view aliases query options] [replace with_check_option];
    LoadStmt(LoadStmt): [] [filename];
    CreatedbStmt(CreatedbStmt): [options] [dbname];
    AlterDatabaseStmt(AlterDatabaseStmt): [options] [dbname];
    AlterDatabaseRefreshCollStmt(AlterDatabaseRefreshCollStmt): [] [dbname];
    AlterDatabaseSetStmt(AlterDatabaseSetStmt): [setstmt] [dbname];
    DropdbStmt(DropdbStmt): [options] [dbname missing_ok];
    AlterSystemStmt(AlterSystemStmt): [setstmt] [];
    ClusterStmt(ClusterStmt): [relation params] [indexname];
    VacuumStmt(VacuumStmt): [options rels] [is_vacuumcmd];
    ExplainStmt(ExplainStmt): [query options] [];
    CreateTableAsStmt(CreateTableAsStmt): [query into] [objtype is_select_into if_not_exists];
    RefreshMatViewStmt(RefreshMatViewStmt): [relation] [concurrent skip_data];
    CheckPointStmt(CheckPointStmt): [] [];
    DiscardStmt(DiscardStmt): [] [target];
    LockStmt(LockStmt): [relations] [mode nowait];
    ConstraintsSetStmt(ConstraintsSetStmt): [constraints] [deferred];
    ReindexStmt(ReindexStmt): [relation params] [kind name];
    CreateConversionStmt(CreateConversionStmt): [conversion_name func_name]
        [for_encoding_name to_encoding_name def];
    CreateCastStmt(CreateCastStmt): [sourcetype targettype func] [context inout];
    CreateTransformStmt(CreateTransformStmt): [type_name fromsql tosql] [replace lang];
    PrepareStmt(PrepareStmt): [argtypes query] [name];
    ExecuteStmt(ExecuteStmt): [params] [name];
    DeallocateStmt(DeallocateStmt): [] [name isall location];
    DropOwnedStmt(DropOwnedStmt): [roles] [behavior];
    ReassignOwnedStmt(ReassignOwnedStmt): [roles newrole] [];
    AlterTsdictionaryStmt(AlterTsDictionaryStmt): [dictname options] [];
    AlterTsconfigurationStmt(AlterTsConfigurationStmt): [cfgname tokentype dicts]
        [kind r#override replace missing_ok];
    CreatePublicationStmt(CreatePublicationStmt): [options pubobjects] [pubname for_all_tables];
    AlterPublicationStmt(AlterPublicationStmt): [options pubobjects] [pubname for_all_tables action];
    CreateSubscriptionStmt(CreateSubscriptionStmt): [publication options]
        [subname conninfo conninfo_location];
    AlterSubscriptionStmt(AlterSubscriptionStmt): [publication options]
        [kind subname conninfo conninfo_location];
    DropSubscriptionStmt(DropSubscriptionStmt): [] [subname missing_ok behavior];
}
