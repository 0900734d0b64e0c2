//! The binary itself: `dev`, the other commands, and every command of the README and of
//! `docs/legacy-clients.md`.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use diesel::sql_types::BigInt;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::{Value, json};
use user_service::{
    model::scope::Scope,
    store::{schema, sql::Sql},
};

use crate::support::{TestDatabase, folder::Folder};

const BINARY: &str = env!("CARGO_BIN_EXE_user-service");

/// The folder of the clients that the README's lines use.
pub fn clients() -> &'static Path {
    static CLIENTS: OnceLock<PathBuf> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        let output = Command::new("bash")
            .arg(".ci/clients")
            .output()
            .expect("bash runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// A running `dev`.
struct Dev {
    process: Child,
    ready: Value,
}

fn dev_command(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command
        .args(["dev", "--json", "--data-dir"])
        .arg(folder)
        .args(more);
    for port in ["--grpc-addr", "--rest-addr", "--ops-addr"] {
        if !more.contains(&port) {
            command.args([port, "127.0.0.1:0"]);
        }
    }
    command
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Dev {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut process = dev_command(folder, more).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line.is_empty() {
            let mut said = String::new();
            process
                .stderr
                .as_mut()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            panic!("dev does not start: {said}");
        }
        // Its log would fill the pipe in the end.
        let mut stderr = process.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self {
            process,
            ready: serde_json::from_str(&line).unwrap(),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Gone already where the test stopped it.
        self.process.kill().unwrap_or_default();
        self.process.wait().expect("a child");
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command
        .args(arguments)
        .arg("--data-dir")
        .arg(folder)
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn run_json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat());
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn dev_keeps_its_data_and_its_tokens_until_reset() {
    let folder = Folder::new();
    let first = Dev::start(&folder.0, &[]);
    let made = run_json(&folder.0, &["user", "create", "--nickname", "王芳"]);
    let (token, url) = (
        first.text("service_token").to_owned(),
        first.text("database_url").to_owned(),
    );
    first.stop();
    let port = url
        .rsplit(':')
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    assert!(
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_err(),
        "Postgres still runs"
    );

    let second = Dev::start(&folder.0, &[]);
    let kept = run_json(
        &folder.0,
        &["user", "get", made["userId"].as_str().unwrap()],
    );
    assert_eq!(kept["nickname"], "王芳");
    assert_eq!(second.text("service_token"), token);
    second.stop();

    let third = Dev::start(
        &folder.0,
        &["--reset", "--service-token-scopes", "profiles.read"],
    );
    let gone = run(
        &folder.0,
        &["user", "get", made["userId"].as_str().unwrap()],
    );
    assert!(said(&gone).contains("User not found."), "{}", said(&gone));
    assert_ne!(third.text("service_token"), token);
    third.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_makes_a_crowd_once_and_adds_what_is_missing() {
    let folder = Folder::new();
    for (users, expected) in [("30", 273), ("30", 273), ("50", 293), ("10", 293)] {
        let dev = Dev::start(&folder.0, &["--users", users]);

        let mut conn = schema::connect(dev.text("database_url"), None)
            .await
            .unwrap();
        let count = Sql::<BigInt>::new("select count(*) from users");
        assert_eq!(
            count.get_result::<i64>(&mut conn).await.unwrap(),
            expected,
            "--users {users}"
        );
        drop(conn);
        dev.stop();
    }
}

#[test]
fn dev_says_what_is_in_its_way() {
    let folder = Folder::new();
    let running = Dev::start(&folder.0, &[]);
    let other = Folder::new();

    let second = dev_command(&folder.0, &[]).output().unwrap();
    let operations = running.text("ops").trim_start_matches("http://");
    let busy = [
        ("--grpc-addr", running.text("grpc")),
        ("--ops-addr", operations),
    ]
    .map(|(port, address)| dev_command(&other.0, &[port, address]).output().unwrap());
    let scopes = dev_command(&other.0, &["--service-token-scopes", "profiles.raed"])
        .output()
        .unwrap();

    let holder = format!("process {}", running.process.id());
    assert!(
        !second.status.success() && said(&second).contains(&holder),
        "{}",
        said(&second)
    );
    for busy in busy {
        assert!(
            !busy.status.success() && said(&busy).contains("the port may be in use"),
            "{}",
            said(&busy)
        );
    }
    assert!(
        !scopes.status.success() && said(&scopes).contains("profiles.raed"),
        "{}",
        said(&scopes)
    );
    running.stop();
}

#[test]
fn commands_speak_to_people_and_to_scripts() {
    let folder = Folder::new();
    let nothing = run(&folder.0, &["user", "get", "1"]);
    assert!(
        said(&nothing).contains("no configuration found: run `dev` first"),
        "{}",
        said(&nothing)
    );
    let dev = Dev::start(&folder.0, &[]);
    let file = folder.0.join("users.jsonl");
    let lines = [
        r#"{"profile": {"nickname": "Cleo"}, "account": {"username": "cleo.import"}}"#,
        "",
        "this is no JSON",
        r#"{"account": {"username": "CLEO.import"}}"#,
        r#"{"profile": {"nickname": "Dora"}}"#,
    ];
    fs::write(&file, lines.join("\n")).unwrap();

    let import = run(&folder.0, &["user", "import", file.to_str().unwrap()]);
    let again = run(
        &folder.0,
        &["user", "import", file.to_str().unwrap(), "--json"],
    );
    let compressed = folder.0.join("users.jsonl.gz");
    fs::write(&compressed, b"\x1f\x8b\x08\x00 and more").unwrap();
    let compressed = run(&folder.0, &["user", "import", compressed.to_str().unwrap()]);
    let refused = run(
        &folder.0,
        &[
            "user",
            "create",
            "--nickname",
            "x",
            "--email",
            "nope",
            "--json",
        ],
    );
    let field = run_json(
        &folder.0,
        &["field", "create", "shoe_size", "--type", "number"],
    );
    let fields = run_json(&folder.0, &["field", "list"]);
    let update = [
        "field",
        "update",
        "shoe_size",
        "--description",
        "EU",
        "--indexed",
        "true",
        "--etag",
    ];
    let updated = run_json(
        &folder.0,
        &[&update[..], &[field["etag"].as_str().unwrap()]].concat(),
    );
    let stale = run(
        &folder.0,
        &[&update[..], &[field["etag"].as_str().unwrap()]].concat(),
    );
    let nothing_to_update = run(&folder.0, &["field", "update", "shoe_size"]);
    let deleted_field = run_json(
        &folder.0,
        &[
            "field",
            "delete",
            "shoe_size",
            "--etag",
            updated["etag"].as_str().unwrap(),
        ],
    );
    let token = run_json(
        &folder.0,
        &[
            "token",
            "issue",
            "--service",
            "billing",
            "--scopes",
            "profiles.read",
        ],
    );
    let tokens = run_json(&folder.0, &["token", "list", "--service", "billing"]);
    let unscoped = run(&folder.0, &["token", "issue", "--service", "shipping"]);
    let whole = run_json(
        &folder.0,
        &[
            "token",
            "issue",
            "--service",
            "shipping",
            "--all-scopes",
            "--days",
            "2",
        ],
    );
    let too_long = run(
        &folder.0,
        &[
            "token",
            "issue",
            "--service",
            "shipping",
            "--all-scopes",
            "--days",
            "366",
        ],
    );
    let all = run_json(&folder.0, &["token", "list", "--all"]);
    let ended = run_json(
        &folder.0,
        &["token", "revoke", "--service", "shipping", "--all"],
    );
    let vague = run(&folder.0, &["token", "revoke", "--service", "shipping"]);
    let revoked = run_json(
        &folder.0,
        &[
            "token",
            "revoke",
            token["token"]["tokenId"].as_str().unwrap(),
        ],
    );
    let found = run_json(&folder.0, &["user", "get", "--username", "cleo.import"]);
    let user_id = found["userId"].as_str().unwrap();
    let guarded = run(&folder.0, &["user", "delete", user_id, "--etag", "ffff"]);
    let dry = run(
        &folder.0,
        &[
            "user",
            "delete",
            user_id,
            "--etag",
            found["etag"].as_str().unwrap(),
            "--dry-run",
        ],
    );
    let deleted = run_json(&folder.0, &["user", "delete", user_id]);
    let missing = run(&folder.0, &["user", "delete", user_id]);
    let allowed = run(&folder.0, &["user", "delete", user_id, "--allow-missing"]);

    assert_eq!(import.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&import.stdout),
        "2 users imported, 2 failed\n"
    );
    assert!(
        said(&import).contains("line 3: INVALID_REQUEST")
            && said(&import).contains("line 4: USERNAME_TAKEN")
    );
    assert!(
        !compressed.status.success() && said(&compressed).contains("gzip"),
        "{}",
        said(&compressed)
    );
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(
        (&again["created"], &again["failed"]),
        (&json!(2), &json!(2))
    );
    let refused: Value = serde_json::from_str(said(&refused).lines().last().unwrap()).unwrap();
    assert_eq!(refused["error"]["violations"][0]["field"], "account.email");
    assert_eq!(field["name"], "shoe_size");
    assert!(
        fields["fields"]
            .as_array()
            .unwrap()
            .iter()
            .any(|field| field["name"] == "shoe_size")
    );
    assert!(
        token["secret"].as_str().unwrap().len() > 20,
        "the command shows the secret that it issues"
    );
    assert_eq!(tokens["tokens"][0]["tokenId"], token["token"]["tokenId"]);
    assert_eq!(tokens["tokens"][0]["issuedBy"], "operator");
    assert!(
        !unscoped.status.success() && said(&unscoped).contains("--scopes"),
        "{}",
        said(&unscoped)
    );
    assert_eq!(
        whole["token"]["scopes"].as_array().unwrap().len(),
        Scope::ALL.len()
    );
    assert!(
        !too_long.status.success() && said(&too_long).contains("ttl"),
        "{}",
        said(&too_long)
    );
    let listed = all["tokens"].as_array().unwrap();
    assert!([&token, &whole].iter().all(|issued| {
        listed
            .iter()
            .any(|one| one["tokenId"] == issued["token"]["tokenId"])
    }));
    assert!(
        listed.iter().any(|one| one["userId"].is_string()),
        "the user's of dev"
    );
    assert_eq!(ended["revoked"], 1);
    assert!(!vague.status.success());
    assert_eq!(revoked["tokenId"], token["token"]["tokenId"]);
    assert_eq!(
        (&updated["description"], &updated["indexed"]),
        (&json!("EU"), &json!(true))
    );
    assert!(!stale.status.success() && !nothing_to_update.status.success());
    assert_eq!(deleted_field["name"], "shoe_size");
    assert!(!guarded.status.success() && !missing.status.success());
    assert_eq!(
        String::from_utf8_lossy(&dry.stdout),
        format!("user {user_id} can be deleted\n")
    );
    assert!(allowed.status.success(), "{}", said(&allowed));
    assert_eq!(deleted["userId"], found["userId"]);
    dev.stop();
}

#[test]
fn output_that_nobody_takes_is_no_panic() {
    let folder = Folder::new();
    let dev = Dev::start(&folder.0, &[]);
    let into = |target: Stdio| {
        let mut command = Command::new(BINARY);
        command
            .args(["user", "get", "1", "--data-dir"])
            .arg(&folder.0)
            .env_remove("DATABASE_URL");
        command
            .stdin(Stdio::null())
            .stdout(target)
            .output()
            .unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);

    let closed = into(writer.into());
    let full = into(
        fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .into(),
    );

    assert!(
        closed.status.success() && said(&closed).is_empty(),
        "{}",
        said(&closed)
    );
    assert!(
        full.status.code() == Some(1) && said(&full).starts_with("error: No space left"),
        "{}",
        said(&full)
    );
    dev.stop();
}

#[test]
fn clients_without_code_of_ours_read_the_details_of_errors() {
    let folder = Folder::new();
    let dev = Dev::start(&folder.0, &[]);
    let authorization = format!("authorization: Bearer {}", dev.text("service_token"));
    let mut grpcurl = Command::new(clients().join("grpcurl"));
    grpcurl.args([
        "-plaintext",
        "-H",
        &authorization,
        "-d",
        r#"{"filter": {"nope": 1}}"#,
        dev.text("grpc"),
    ]);

    let refused = grpcurl
        .arg("userservice.v1.UserService/ListProfiles")
        .output()
        .unwrap();

    assert!(
        said(&refused).contains("filter.nope") && said(&refused).contains("FILTER_INVALID"),
        "{}",
        said(&refused)
    );
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_leaves_a_database_of_somebody_else_alone() {
    let database = TestDatabase::new().await;
    let url = database.url();
    let refused = async || {
        let folder = Folder::new();
        let refused = dev_command(&folder.0, &[])
            .env("DATABASE_URL", &url)
            .output()
            .unwrap();
        assert!(
            !refused.status.success() && said(&refused).contains("wasn't created by dev"),
            "{}",
            said(&refused)
        );
    };
    refused().await;
    schema::revert(&url, None).await.unwrap();
    let mut conn = schema::connect(&url, None).await.unwrap();
    conn.batch_execute("drop table __diesel_schema_migrations; create table theirs (n bigint)")
        .await
        .unwrap();

    refused().await;

    assert!(!schema::is_empty(&mut conn).await.unwrap());
    conn.batch_execute("drop table theirs").await.unwrap();
    assert!(
        schema::is_empty(&mut conn).await.unwrap(),
        "dev left something"
    );
}

#[test]
fn configuration_is_checked_whole_and_printed_without_secrets() {
    let folder = Folder::new();
    let file = folder.0.join("bad.toml");
    fs::write(
        &file,
        "[database]\npool_size = 0\n[secrets]\nkeys = [{ id = \"a\", key = \"short\" }]\n",
    )
    .unwrap();
    let good = folder.0.join("good.toml");
    let key = user_service::config::key_text([1; 32]);
    let text = format!(
        "[database]\nurl = \"postgres://me:hidden@db/users\"\n[secrets]\nkeys = [{{ id = \"a\", key = \"{key}\" }}]\n"
    );
    fs::write(&good, text).unwrap();

    let bad = run(
        &folder.0,
        &["config", "check", "--config", file.to_str().unwrap()],
    );
    let printed = run(
        &folder.0,
        &["config", "print", "--config", good.to_str().unwrap()],
    );
    let risky = run_json(
        &folder.0,
        &["config", "check", "--config", good.to_str().unwrap()],
    );
    let files = folder.0.join("files.toml");
    let tls =
        "[grpc.tls]\ncert = \"/nope.crt\"\nkey = \"/nope.key\"\n[mail]\ntemplates = \"/nope\"\n";
    fs::write(
        &files,
        format!("{}{tls}", fs::read_to_string(&good).unwrap()),
    )
    .unwrap();
    let absent = run(
        &folder.0,
        &["config", "check", "--config", files.to_str().unwrap()],
    );
    let misspelt = folder.0.join("misspelt.toml");
    let text = "[database]\nurl = \"mysql://db/users\"\npool_sise = 4\n[operatoins]\nping_seconds = 1\n[telemetry]\n\
                log_format = \"xml\"\n[tokens]\nuser_max_days = 0\n[auth]\nmax_token_bytes = 1\n\
                [[auth.issuers]]\nissuer = \"https://id.example.com\"\naudiences = []\njwks = \"/j\"\n\
                [mail.smtp]\nhost = \"mail\"\nport = \"many\"\n";
    fs::write(&misspelt, text).unwrap();
    let misspelt = run(
        &folder.0,
        &["config", "check", "--config", misspelt.to_str().unwrap()],
    );

    for fault in [
        "database.url must be postgres://",
        "unknown key database.pool_sise; valid keys: url, listen_url, pool_size, ca_file",
        "unknown key operatoins; valid keys: database, grpc",
        "telemetry.log_format: unknown value `xml`; valid values: text, json",
        "tokens.user_max_days must be 1 to 3650",
        "auth.max_token_bytes must be 1024 to 65536",
        "auth.issuers: https://id.example.com: audiences is missing",
        "mail.smtp.port: invalid type",
        "secrets.keys must contain at least one key",
    ] {
        assert!(
            said(&misspelt).contains(fault),
            "{fault} in {}",
            said(&misspelt)
        );
    }
    for fault in ["grpc.tls: /nope.crt: ", "mail.templates: "] {
        assert!(
            said(&absent).contains(fault),
            "{fault} in {}",
            said(&absent)
        );
    }
    for fault in ["database.url", "database.pool_size", "secrets.keys.0.key"] {
        assert!(said(&bad).contains(fault), "{}", said(&bad));
    }
    assert_eq!(risky["ok"], true);
    let warning = risky["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("secrets.keys.0.key") && !warning.contains(&key),
        "{warning}"
    );
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("postgres://me:***@db/users"), "{printed}");
    assert!(
        !printed.contains(&key) && !printed.contains("hidden"),
        "{printed}"
    );
}

#[test]
fn faults_of_the_configuration_show_no_secret() {
    let folder = Folder::new();
    let check = |text: &str, variables: &[(&str, &str)]| {
        let file = folder.0.join("file.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(BINARY);
        command
            .args(["config", "check", "--config"])
            .arg(&file)
            .env_remove("DATABASE_URL");
        said(&command.envs(variables.iter().copied()).output().unwrap())
    };
    let hidden = folder.0.join("hidden");
    fs::write(&hidden, "[{id=\"a\", key=\"S3cret\"]").unwrap();
    let hidden = hidden.to_str().unwrap();

    let told = [
        (
            check(
                "[database]\nurl = \"postgress://me:S3cret@db/users?sslmode=require\"\n",
                &[],
            ),
            "database.url must be postgres://",
        ),
        (
            check("[database]\nurl = postgres://me:S3cret@db/users\n", &[]),
            "line 2: ",
        ),
        (
            check("[secrets]\nkeys = \"S3cret\"\n", &[]),
            "secrets.keys: expected a sequence",
        ),
        (
            check(
                "[secrets]\nkeys = [{ id = \"a\", kye = \"S3cret\" }]\n",
                &[],
            ),
            "unknown key secrets.keys.0.kye",
        ),
        (
            check("", &[("USER_SERVICE__SECRETS__KEYS_FILE", hidden)]),
            "secrets.keys: expected a sequence",
        ),
        (
            check("", &[("USER_SERVICE__SMS__SECRET_FILE", "/nope")]),
            "cannot read the file in USER_SERVICE__SMS__SECRET_FILE",
        ),
        (
            check(
                "",
                &[("USER_SERVICE__DATABASE", "postgres://me:S3cret@db/users")],
            ),
            "database: expected",
        ),
        (
            check(
                "[secrets]\nkeys = [{ id = \"S3cret\", key = \"a\" }]\n",
                &[],
            ),
            "secrets.keys.0.key must be 32 bytes",
        ),
        (
            check("[sms]\nsecret = \"S3cret\"\nsecret = \"S3cret\"\n", &[]),
            "line 3: duplicate key",
        ),
    ];
    let number = [
        ("USER_SERVICE__MAIL__SMTP__HOST", "relay"),
        ("USER_SERVICE__MAIL__SMTP__USERNAME", "me"),
        ("USER_SERVICE__MAIL__SMTP__PASSWORD", "0123456789"),
    ];
    let digits = check("", &number);
    let quoted = check(
        "",
        &[(
            "user_service__database__url",
            " \"postgres://me:S3cret@db/users\"\n",
        )],
    );

    for (told, fault) in told {
        assert!(
            told.contains(fault) && !told.contains("S3cret"),
            "{fault} in {told}"
        );
    }
    assert!(!quoted.contains("database.url"), "{quoted}");
    assert!(
        !digits.contains("mail.smtp") && !digits.contains("0123456789"),
        "{digits}"
    );
}

/// A command of a page, and the JSON that the page shows as its response, if any.
struct Example {
    command: String,
    answer: Option<Value>,
}

/// The pages whose commands a user can paste.
const PAGES: [&str; 2] = ["README.md", "docs/legacy-clients.md"];

fn examples() -> Vec<Example> {
    let text = PAGES.map(|page| fs::read_to_string(page).unwrap()).concat();
    let mut found: Vec<Example> = Vec::new();
    for block in text.split("```").skip(1).step_by(2) {
        if let Some(commands) = block.strip_prefix("sh\n") {
            let joined = commands.replace("\\\n", " ");
            let lines = joined
                .lines()
                .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            found.extend(lines.map(|line| Example {
                command: line.to_owned(),
                answer: None,
            }));
        } else if let Some(answer) = block.strip_prefix("json\n") {
            found.last_mut().expect("a command").answer =
                Some(serde_json::from_str(answer).unwrap());
        }
    }
    found
}

#[test]
fn p61_every_line_of_the_readme_works() {
    let folder = Folder::new();
    let dev = Dev::start(&folder.0, &[]);
    let service = folder.0.join("bin");
    fs::create_dir(&service).unwrap();
    std::os::unix::fs::symlink(BINARY, service.join("user-service")).unwrap();
    let path = format!(
        "{}:{}:{}",
        service.display(),
        clients().display(),
        std::env::var("PATH").unwrap()
    );
    let readme = fs::read_to_string("README.md").unwrap();
    let users = readme
        .split("```jsonl\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    fs::write(folder.0.join("users.jsonl"), users).unwrap();
    let examples = examples();
    assert!(examples.len() > 8, "the README has lost its examples");

    for Example { command, answer } in examples {
        // These two are what this test stands in.
        if command.starts_with("cargo ") {
            assert!(
                ["cargo run --release -- dev", "cargo test"].contains(&command.as_str()),
                "{command}"
            );
            continue;
        }
        let line = command.replace("127.0.0.1:50051", dev.text("grpc"));
        let mut line = line.replace("http://127.0.0.1:8080", dev.text("rest"));
        if let Some(arguments) = line.strip_prefix("curl ") {
            line = format!("curl -sS --fail-with-body {arguments}");
        }
        if command.starts_with("user-service ") {
            line = format!("{line} --data-dir {}", folder.0.display());
        }
        let output = Command::new("bash")
            .args(["-euc", &line])
            .current_dir(&folder.0)
            .envs([
                ("PATH", path.as_str()),
                ("TOKEN", dev.text("service_token")),
                ("USER_TOKEN", dev.text("user_token")),
            ])
            .env_remove("DATABASE_URL")
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}\n{}", said(&output));
        if let Some(answer) = answer {
            let given: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(holds(&given, &answer), "{command} gives\n{given:#}");
        }
    }
    dev.stop();
}

/// Whether all that is shown is there; what is not shown may be there too.
fn holds(given: &Value, shown: &Value) -> bool {
    match (given, shown) {
        (Value::Object(given), Value::Object(shown)) => shown
            .iter()
            .all(|(name, value)| given.get(name).is_some_and(|given| holds(given, value))),
        (Value::Number(given), Value::Number(shown)) => given.as_f64() == shown.as_f64(),
        (given, shown) => given == shown,
    }
}
