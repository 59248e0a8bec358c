//! `duolog user`: create, list, describe, alter, delete.

pub mod report;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use duolog_types::{Secret, UserStatus, UserType, check_user_name};
use serde_json::json;

use crate::arguments::{OutputArgs, addresses};
use crate::client::Address;
use crate::exit::Exit;
use crate::http::{self, Answer};
use crate::output::{Out, OutputFormat, Table, count};
use crate::run::{block_on, confirm};
use report::{UserChange, UserReport, UserRow};

/// A file with a secret is a line.
const SECRET_FILE_BYTES_MAX: u64 = 4_096;

/// Commands about users, as which RocketMQ clients sign their calls.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Creates a user. Its name is the client's access key.
    Create(CreateCommand),
    /// Shows every user. Secrets are never shown.
    List(ListCommand),
    /// Shows a user.
    Describe(DescribeCommand),
    /// Changes a user: its secret, its type, whether it is let in.
    Alter(AlterCommand),
    /// Deletes users, with the ACLs that name them.
    Delete(DeleteCommand),
}

#[derive(Debug, Args)]
struct HttpArgs {
    /// HTTP addresses of one or more nodes: HOST:PORT[,HOST:PORT…]; the first that answers is enough.
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:8090")]
    http: String,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct SecretArgs {
    /// File with the secret, or `-` for standard input; blanks and line ends around it do not count.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The secret itself; others on this machine may see it while the command runs.
    #[arg(long, value_name = "TEXT")]
    secret: Option<String>,
}

/// Whether ACLs count for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeWord {
    /// They do.
    Normal,
    /// It may do everything.
    Super,
}

/// Whether a user is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusWord {
    /// Yes.
    Enabled,
    /// No.
    Disabled,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  openssl rand -hex 20 > billing.secret
  duolog user create billing --secret-file billing.secret
  duolog user create admin --type super --secret-file - < admin.secret")]
pub struct CreateCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the user.
    name: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// Whether ACLs count for it.
    #[arg(long = "type", value_enum, default_value = "normal")]
    user_type: TypeWord,
    /// Whether it is let in.
    #[arg(long, value_enum, default_value = "enabled")]
    status: StatusWord,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog user list
  duolog user list --output json | jq -r '.[] | select(.type == \"super\") | .name'")]
pub struct ListCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog user describe billing
  duolog acl list --user billing")]
pub struct DescribeCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the user.
    name: String,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog user alter billing --secret-file new.secret
  duolog user alter billing --status disabled

It holds at once, for clients that are connected, too.")]
pub struct AlterCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the user.
    name: String,
    #[command(flatten)]
    secret: SecretArgs,
    /// Whether ACLs count for it.
    #[arg(long = "type", value_enum)]
    user_type: Option<TypeWord>,
    /// Whether it is let in.
    #[arg(long, value_enum)]
    status: Option<StatusWord>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog user delete billing
  duolog user delete billing reports --yes")]
pub struct DeleteCommand {
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Names of the users.
    #[arg(required = true)]
    names: Vec<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl UserCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// No node answers, or it refuses.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Create(command) => block_on(create(command))?,
            Self::List(command) => block_on(list(command))?,
            Self::Describe(command) => block_on(describe(command))?,
            Self::Alter(command) => block_on(alter(command))?,
            Self::Delete(command) => block_on(delete(command))?,
        }
        Ok(Exit::Success)
    }
}

impl TypeWord {
    fn user_type(self) -> UserType {
        match self {
            Self::Normal => UserType::Normal,
            Self::Super => UserType::Super,
        }
    }
}

impl StatusWord {
    fn status(self) -> UserStatus {
        match self {
            Self::Enabled => UserStatus::Enabled,
            Self::Disabled => UserStatus::Disabled,
        }
    }
}

impl SecretArgs {
    fn read(&self) -> anyhow::Result<Option<Secret>> {
        let text = match (&self.secret_file, &self.secret) {
            (Some(path), _) => read_file(path).with_context(|| format!("--secret-file {}", path.display()))?,
            (None, Some(text)) => text.clone(),
            (None, None) => return Ok(None),
        };
        Ok(Some(Secret::new(text.trim())?))
    }
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

async fn create(command: CreateCommand) -> anyhow::Result<()> {
    check_user_name(&command.name)?;
    let secret = command.secret.read()?.context("a new user needs a secret: give --secret-file FILE")?;
    let change = UserChange {
        secret: Some(secret),
        user_type: Some(command.user_type.user_type()),
        status: Some(command.status.status()),
    };
    post(&command.http, &command.name, "create", &change).await?;
    done(command.output, "created", &[command.name])
}

async fn alter(command: AlterCommand) -> anyhow::Result<()> {
    check_user_name(&command.name)?;
    let change = UserChange {
        secret: command.secret.read()?,
        user_type: command.user_type.map(TypeWord::user_type),
        status: command.status.map(StatusWord::status),
    };
    ensure!(change != UserChange::default(), "nothing to change: give --secret-file, --type or --status");
    post(&command.http, &command.name, "alter", &change).await?;
    done(command.output, "altered", &[command.name])
}

async fn delete(command: DeleteCommand) -> anyhow::Result<()> {
    command.names.iter().try_for_each(|name| check_user_name(name))?;
    if !command.yes {
        confirm(&format!("deletes {} with all ACLs that name them", command.names.join(", ")), "delete")?;
    }
    for name in &command.names {
        post(&command.http, name, "delete", &UserChange::default()).await?;
    }
    done(command.output, "deleted", &command.names)
}

async fn list(command: ListCommand) -> anyhow::Result<()> {
    let users = users(&command.http).await?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&users);
    }
    out.table(&table(&users))?;
    out.line(&count(users.len() as u64, "user"))
}

async fn describe(command: DescribeCommand) -> anyhow::Result<()> {
    let found = users(&command.http).await?.into_iter().find(|user| user.name == command.name);
    let user = found.with_context(|| format!("there is no user {:?}: `duolog user list` shows them", command.name))?;
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => out.json(&user),
        OutputFormat::Table => out.table(&table(&[user])),
    }
}

fn table(users: &[UserRow]) -> Table {
    let mut table = Table::new(&["USER", "TYPE", "STATUS", ">ACLS"]);
    for user in users {
        let user_type = match user.user_type {
            UserType::Normal => "normal",
            UserType::Super => "super",
        };
        let status = match user.status {
            UserStatus::Enabled => "enabled",
            UserStatus::Disabled => "disabled",
        };
        table.row(vec![user.name.clone(), user_type.to_owned(), status.to_owned(), user.acls.to_string()]);
    }
    table
}

fn done(output: OutputArgs, what: &str, names: &[String]) -> anyhow::Result<()> {
    let mut out = Out::default();
    match output.output {
        OutputFormat::Json => out.json(&json!({ what: names })),
        OutputFormat::Table => names.iter().try_for_each(|name| out.line(&format!("{what} user {name}"))),
    }
}

async fn users(http: &HttpArgs) -> anyhow::Result<Vec<UserRow>> {
    let body = at_any(http, "GET", "/users", "").await?;
    let report: UserReport = serde_json::from_str(&body).context("the node's answer")?;
    Ok(report.users)
}

async fn post(http: &HttpArgs, name: &str, verb: &str, change: &UserChange) -> anyhow::Result<()> {
    let body = serde_json::to_string(change)?;
    at_any(http, "POST", &format!("/users/{name}/{verb}"), &body).await.map(drop)
}

/// The body of the answer of the first node that answers: every node takes these calls.
async fn at_any(http: &HttpArgs, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let addresses: Vec<Address> = addresses(&http.http).with_context(|| format!("--http {:?}", http.http))?;
    let mut silent = Vec::new();
    for address in &addresses {
        match http::call_with(address, method, path, body).await {
            Ok(Answer { status: 200, body }) => return Ok(body),
            Ok(Answer { status: 404, body }) if body.is_empty() => {
                bail!("{address} does not offer {path}: it runs another version of Duolog than this command")
            }
            Ok(Answer { status, body }) => bail!("{} (status {status} of {address})", body.trim()),
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    bail!("no node answers: {}", silent.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_and_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " a-good-secret\n").unwrap();
        let given = SecretArgs { secret_file: Some(file.path().to_owned()), secret: None };
        assert_eq!(given.read().unwrap().unwrap().reveal(), "a-good-secret");
        std::fs::write(file.path(), "short").unwrap();
        let error = format!("{:#}", given.read().unwrap_err());
        assert!(!error.contains("short"), "{error}");
        let missing = SecretArgs { secret_file: Some("/nowhere".into()), secret: None };
        assert!(format!("{:#}", missing.read().unwrap_err()).contains("--secret-file /nowhere"));
    }
}
