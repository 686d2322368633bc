//! Which UNIX sockets a workload may connect to.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use portcullis_abi::guard::{UnixKey, UnixRule};

use super::Guard;
use crate::{
    model::CgroupId,
    redirect::{RedirectError, bpf::map_failed},
};

/// One that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// Its path, exactly as workloads give it, or `@` and an abstract name.
    pub path: String,
    /// The agent's listener that connects are sent to in its place.
    pub redirect: Option<PathBuf>,
}

impl UnixAddress {
    /// The address in the kernel's form; `None` when there is none such.
    #[must_use]
    pub fn key(&self, tagged: CgroupId) -> Option<UnixKey> {
        match self.path.strip_prefix('@') {
            Some(name) => UnixKey::new(tagged.0, &[b"\0", name.as_bytes()].concat()),
            None => UnixKey::new(tagged.0, self.path.as_bytes()),
        }
    }

    fn rule(&self) -> Option<UnixRule> {
        use std::os::unix::ffi::OsStrExt as _;
        match &self.redirect {
            None => Some(UnixRule::ALLOW),
            Some(path) => UnixRule::redirect(Path::as_os_str(path).as_bytes()),
        }
    }
}

impl Guard {
    /// Sets the rules of a tagged cgroup, and takes away what was there before.
    pub(in crate::redirect) fn set_unix(
        &mut self,
        id: CgroupId,
        allowed: &[UnixAddress],
    ) -> Result<(), RedirectError> {
        let mut wanted = HashSet::new();
        for address in allowed {
            let (Some(key), Some(rule)) = (address.key(id), address.rule()) else {
                return Err(RedirectError::UnixPath {
                    path: address.path.clone(),
                });
            };
            self.rules
                .insert(key, rule, 0)
                .map_err(map_failed("UNIX_RULES"))?;
            wanted.insert(key);
        }
        self.remove_rules(id, |key| !wanted.contains(key));
        Ok(())
    }

    pub(super) fn remove_rules(&mut self, id: CgroupId, unwanted: impl Fn(&UnixKey) -> bool) {
        let gone: Vec<UnixKey> = self
            .rules
            .keys()
            .filter_map(Result::ok)
            .filter(|key| key.tagged == id.0 && unwanted(key))
            .collect();
        for key in gone {
            // Not there is what is wanted.
            let _absent = self.rules.remove(&key);
        }
    }
}
