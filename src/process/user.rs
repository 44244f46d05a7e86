//! Users by name or number, looked up before the fork: the look-up allocates and may read files.

use std::ffi::CString;
use std::io;

/// Who a child runs as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All groups of the user, its own included, as `initgroups` would set them.
    pub groups: Vec<u32>,
    pub home: String,
}

/// A user of this system: by name, else by number.
pub fn find(name: &str) -> io::Result<User> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no user {name:?}"));
    let mut found = nix::unistd::User::from_name(name)?;
    if found.is_none()
        && let Ok(uid) = name.parse()
    {
        found = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))?;
    }
    let found = found.ok_or_else(missing)?;
    let account = CString::new(found.name.as_str()).map_err(|_| missing())?;
    let groups = nix::unistd::getgrouplist(&account, found.gid)?;
    Ok(User {
        name: found.name,
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
        home: found.dir.to_string_lossy().into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = find("root").expect("every system has root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(find("0").expect("by number"), root);
        let error = find("no-such-user").expect_err("there is none");
        assert_eq!(error.to_string(), "there is no user \"no-such-user\"");
    }
}
