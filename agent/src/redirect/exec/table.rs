//! The processes of workloads: what each runs, and what it comes from; for a while also when it has gone.

use std::collections::{HashMap, VecDeque};

use super::event::{FileId, Happened};

/// Processes at once. Those that have ended go first, the longest ended first.
const MOST: usize = 65_536;

/// What names a process for ever: its id, and when it started (nanoseconds since boot).
pub(super) type Id = (u32, u64);

/// What is executed, and by what name.
pub(super) type File = (FileId, std::sync::Arc<std::ffi::OsStr>);

/// One process.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// What it runs, and the name it was executed by; none as long as nothing is known.
    pub file: Option<File>,
    /// What made it.
    pub parent: Option<Id>,
    /// How often it has executed, as far as that was told.
    execs: Option<u32>,
    /// Nothing more is told of it.
    ended: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Table {
    nodes: HashMap<Id, Node>,
    ended: VecDeque<Id>,
}

impl Table {
    /// Takes in what happened. False where it was known already: at an upgrade two programs tell of the same.
    pub(super) fn take(&mut self, happened: &Happened) -> bool {
        match happened {
            Happened::Forked { process, parent } => {
                if self.nodes.contains_key(process) {
                    return false;
                }
                // Until it executes, it runs what its maker does.
                let file = self.nodes.get(parent).and_then(|maker| maker.file.clone());
                self.insert(*process, *parent, file, None);
                true
            }
            Happened::Executed(executed) => {
                let file = Some((executed.file, executed.name.as_os_str().into()));
                let execs = Some(executed.execs);
                match self.nodes.get_mut(&executed.process) {
                    Some(node) if node.execs == execs => return false,
                    // It may have come back.
                    Some(node) => (node.file, node.execs, node.ended) = (file, execs, false),
                    None => self.insert(executed.process, executed.parent, file, execs),
                }
                true
            }
            Happened::Exited { process, .. } | Happened::Left { process, .. } => {
                let Some(node) = self.nodes.get_mut(process) else {
                    return true;
                };
                if std::mem::replace(&mut node.ended, true) {
                    return false;
                }
                self.ended.push_back(*process);
                while self.ended.len() > MOST && self.drop_oldest() {}
                true
            }
        }
    }

    fn insert(&mut self, process: Id, parent: Id, file: Option<File>, execs: Option<u32>) {
        while self.nodes.len() >= MOST {
            if !self.drop_oldest() {
                return;
            }
        }
        let node = Node {
            file,
            parent: Some(parent),
            execs,
            ended: false,
        };
        self.nodes.insert(process, node);
    }

    /// Forgets what ended the longest ago, unless it has come back; false where there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some(gone) = self.ended.pop_front() else {
            return false;
        };
        if self.nodes.get(&gone).is_some_and(|node| node.ended) {
            self.nodes.remove(&gone);
        }
        true
    }

    /// What is known of a process.
    pub(super) fn get(&self, process: Id) -> Option<&Node> {
        self.nodes.get(&process)
    }

    /// What it comes from, nearest first, at most `most`.
    pub(super) fn ancestors(&self, process: Id, most: usize) -> Vec<(Id, Node)> {
        let parent = |id: &Id| self.nodes.get(id).and_then(|node| node.parent);
        std::iter::successors(parent(&process), parent)
            .take_while(|(pid, _)| *pid != 0)
            .take(most)
            .map(|id| (id, self.nodes.get(&id).cloned().unwrap_or_default()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_outlives_processes_and_ids_that_are_used_again() {
        let mut table = Table::default();
        let fork = |process, parent| Happened::Forked { process, parent };
        for (process, parent) in [((2, 20), (1, 10)), ((3, 30), (2, 20)), ((4, 40), (3, 30))] {
            assert!(table.take(&fork(process, parent)));
        }
        let exit = Happened::Exited {
            process: (3, 30),
            at_ns: 1,
            status: 0,
        };
        assert!(table.take(&exit));
        assert!(!table.take(&exit), "told twice");
        assert!(table.take(&fork((3, 99), (1, 10))), "the id is used again");
        let of =
            |table: &Table, id| -> Vec<Id> { table.ancestors(id, 8).into_iter().map(|(id, _)| id).collect() };
        assert_eq!(of(&table, (4, 40)), [(3, 30), (2, 20), (1, 10)]);
        assert_eq!(of(&table, (3, 99)), [(1, 10)]);
        assert_eq!(table.ancestors((4, 40), 1).len(), 1);
    }

    #[test]
    fn an_exec_is_taken_once_and_a_process_may_come_back() {
        let executed = |execs| {
            let event = portcullis_abi::Event {
                kind: portcullis_abi::EXECUTED,
                pid: 2,
                start_ns: 20,
                execs,
                ..portcullis_abi::Event::default()
            };
            super::super::event::parse(&super::super::event::bytes(&event, &[0; portcullis_abi::NAME]))
                .unwrap()
        };
        let left = Happened::Left {
            process: (2, 20),
            at_ns: 1,
        };
        let mut table = Table::default();
        assert!(
            table.take(&executed(1)) && !table.take(&executed(1)),
            "told twice"
        );
        assert!(table.take(&executed(2)));
        assert!(table.take(&left) && !table.take(&left));
        assert!(table.take(&executed(3)) && table.take(&left), "it came back");
    }

    #[test]
    fn it_is_bounded_and_forgets_what_has_ended_first() {
        let mut table = Table::default();
        for pid in 1..=u32::try_from(MOST).unwrap() + 10 {
            let process = (pid, 1);
            table.take(&Happened::Forked {
                process,
                parent: (0, 0),
            });
            if pid > 1 {
                table.take(&Happened::Exited {
                    process,
                    at_ns: 1,
                    status: 0,
                });
            }
        }
        assert_eq!(table.nodes.len(), MOST);
        assert!(table.get((1, 1)).is_some() && table.get((2, 1)).is_none());
    }
}
