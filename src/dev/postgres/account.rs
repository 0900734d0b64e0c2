//! The user that Postgres runs as: ourselves, or where we are root, which it rejects, one without
//! rights.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail};

/// The user to run Postgres as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// As the user that we are.
    Own,
    /// As another, which only root can do.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// Chooses the account: our own, or as root `postgres` or else `nobody`.
    pub(super) fn choose() -> anyhow::Result<Account> {
        if !is_root() {
            return Ok(Account::Own);
        }
        let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        ["postgres", "nobody"].iter().find_map(|name| parse_account(&users, name)).context(
            "Postgres can't run as root, and /etc/passwd has neither a postgres nor a nobody user: run as another user",
        )
    }

    /// The account that owns this data folder, where that is another: it was chosen when another
    /// user existed.
    pub(super) fn owning(self, data: &Path) -> Account {
        match (self, data.metadata()) {
            (Account::Other { uid, .. }, Ok(owner)) if owner.uid() != uid && owner.uid() != 0 => {
                Account::Other {
                    name: format!("user {}", owner.uid()),
                    uid: owner.uid(),
                    gid: owner.gid(),
                }
            }
            (account, _) => account,
        }
    }

    /// A command run by this account, in a folder that it can enter and in a language that we can
    /// read.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        // LC_ALL: with an unknown locale the server of macOS does not start.
        command
            .current_dir("/")
            .env("LC_ALL", "C")
            .stdin(std::process::Stdio::null());
        if let Account::Other { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Makes a folder that only this account can enter.
    pub(super) fn make_private_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let cannot_make = || format!("cannot make the folder {}", folder.display());
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .with_context(cannot_make)?;
        if let Account::Other { uid, gid, .. } = self {
            chown(folder, Some(*uid), Some(*gid)).with_context(cannot_make)?;
        }
        Ok(())
    }

    /// Fails where this account may not enter a folder on the way to this one.
    pub(super) fn check_reach(&self, folder: &Path) -> anyhow::Result<()> {
        let Account::Other { name, uid, gid } = self else {
            return Ok(());
        };
        for step in folder.ancestors() {
            let found = step
                .metadata()
                .with_context(|| format!("cannot look at {}", step.display()))?;
            let may_enter = match found.mode() {
                mode if found.uid() == *uid => mode & 0o100,
                mode if found.gid() == *gid => mode & 0o010,
                mode => mode & 0o001,
            };
            if may_enter == 0 {
                bail!(
                    "Postgres can't run as root, and the user {name}, which it would run as instead, has no access to {}: choose \
                     another folder than {}, or run as an ordinary user",
                    step.display(),
                    folder.display()
                );
            }
        }
        Ok(())
    }
}

/// Whether this process runs as root.
pub(super) fn is_root() -> bool {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    // Asked of a program, because the standard library tells no user id and the owner of /proc/self
    // can be another.
    *IS_ROOT.get_or_init(|| {
        Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|id| id.stdout == b"0\n")
    })
}

/// Makes a folder and the missing ones above it, such that every user may enter them whatever the
/// umask is.
pub(super) fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|step| !step.as_os_str().is_empty() && !step.exists())
        .map(Path::to_path_buf)
        .collect();
    let cannot_make = || format!("cannot make the folder {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot_make)?;
    for step in &missing {
        std::fs::set_permissions(step, Permissions::from_mode(0o755)).with_context(cannot_make)?;
    }
    Ok(())
}

fn parse_account(users: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = users
        .lines()
        .map(|line| line.split(':').collect())
        .find(|fields: &Vec<&str>| fields[0] == name)?;
    let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
    Some(Account::Other {
        name: name.to_owned(),
        uid,
        gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_read_from_the_list_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:nobody:/nonexistent:/bin/false\n# a remark\n";

        let nobody = parse_account(users, "nobody");
        let postgres = parse_account(users, "postgres");

        assert_eq!(
            nobody,
            Some(Account::Other {
                name: "nobody".to_owned(),
                uid: 65534,
                gid: 65533
            })
        );
        assert_eq!(postgres, None);
    }
}
