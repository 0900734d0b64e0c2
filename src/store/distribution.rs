//! Where the tables are in a distributed Postgres, and how they get there.
//!
//! Citus (the extension `citus`) spreads the rows of a table over nodes by the value of one column.
//! Tables of users are spread by the user, so that a call for one user is a call to one node;
//! tables that are looked up by a value are spread by that value. The others stay on the
//! coordinator, to which the service connects.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use diesel::{
    QueryResult,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::store::sql::Sql;

/// Where the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Spread by a column, rows with the same value beside those of another table.
    Beside {
        column: &'static str,
        table: &'static str,
    },
    /// Spread by a column, by itself.
    Alone { column: &'static str },
    /// All rows on the coordinator.
    Coordinator,
}

const BY_USER: Placement = Placement::Beside {
    column: "user_id",
    table: "users",
};

/// Every table, in the order in which they are distributed.
pub const TABLES: &[(&str, Placement)] = &[
    ("users", Placement::Alone { column: "user_id" }),
    ("deleted_users", BY_USER),
    ("accounts", BY_USER),
    ("field_values", BY_USER),
    ("connections", BY_USER),
    ("codes", BY_USER),
    ("known_clients", BY_USER),
    ("unique_values", Placement::Alone { column: "value" }),
    (
        "reserved_values",
        Placement::Beside {
            column: "value",
            table: "unique_values",
        },
    ),
    (
        "tokens",
        Placement::Alone {
            column: "token_hash",
        },
    ),
    (
        "service_revocations",
        Placement::Alone { column: "service" },
    ),
    (
        "idempotency",
        Placement::Alone {
            column: "request_id",
        },
    ),
    // No statement joins it, and the worker of fields locks its rows each second.
    ("field_definitions", Placement::Coordinator),
    ("outbox", Placement::Coordinator),
    // A login clears all keys that begin alike, which no one column could bring to one node.
    ("limits", Placement::Coordinator),
    ("text_messages", Placement::Coordinator),
    ("hash_kinds", Placement::Coordinator),
    ("safe_migrations", Placement::Coordinator),
];

/// Every function, which the nodes need for the statements and the indexes.
pub const FUNCTIONS: &[&str] = &[
    "fold_case",
    "text_pieces",
    "pattern_pieces",
    "compact_size",
    "limited",
    "add_number",
    "add_at_path",
    "append_unique",
    "change_document",
    "change_groups",
];

impl Placement {
    /// The column that decides on which node a row is.
    fn column(self) -> Option<&'static str> {
        match self {
            Placement::Beside { column, .. } | Placement::Alone { column } => Some(column),
            Placement::Coordinator => None,
        }
    }

    /// What an operator reads of a table that is here.
    fn text(self) -> String {
        match self {
            Placement::Beside { column, .. } | Placement::Alone { column } => {
                format!("distributed by `{column}`")
            }
            Placement::Coordinator => "kept on the coordinator".to_owned(),
        }
    }
}

/// Where a table is now.
struct Current {
    table: String,
    placement: CurrentPlacement,
    /// Whether the coordinator has rows that it had before the table was distributed.
    has_local_copy: bool,
    is_owned: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum CurrentPlacement {
    Local,
    Spread(String),
    Everywhere,
}

impl CurrentPlacement {
    /// Whether a table has to be moved.
    ///
    /// # Errors
    /// A table that was distributed in another way.
    fn must_move(&self, table: &str, wanted: Placement) -> anyhow::Result<bool> {
        let found = match (self, wanted) {
            (CurrentPlacement::Local, Placement::Coordinator) => return Ok(false),
            (CurrentPlacement::Local, _) => return Ok(true),
            (CurrentPlacement::Spread(column), wanted) if wanted.column() == Some(column) => {
                return Ok(false);
            }
            (CurrentPlacement::Spread(column), _) => format!("distributed by `{column}`"),
            (CurrentPlacement::Everywhere, _) => "copied to every node".to_owned(),
        };
        bail!(
            "the table `{table}` is {found}, but must be {}. Citus can't move a table with an identity column back: dump \
             the data, restore it into a new database that `migrate` has prepared, and distribute that one",
            wanted.text()
        )
    }
}

/// Whether the tables of this database are distributed, all or some of them.
///
/// # Errors
/// The database's.
pub async fn is_distributed(conn: &mut AsyncPgConnection) -> anyhow::Result<bool> {
    if !has_extension(conn).await? {
        return Ok(false);
    }
    let names: Vec<String> = TABLES
        .iter()
        .map(|(table, _)| (*table).to_owned())
        .collect();
    let statement = Sql::<Bool>::new(
        "select exists (select from pg_dist_partition p join pg_class c on c.oid = p.logicalrelid \
         where c.relnamespace = current_schema()::regnamespace and c.relname = any(",
    );
    Ok(statement.bind(names).push("))").get_result(conn).await?)
}

/// Checks whether the tables of this database can be distributed by this role, as far as there are
/// tables.
///
/// # Errors
/// A database that can't be distributed.
pub async fn check(conn: &mut AsyncPgConnection) -> anyhow::Result<()> {
    check_database(conn).await?;
    let current = list_current(conn).await?;
    check_owner(conn, &current).await
}

/// Distributes what is not distributed yet, with the rows that are there; gives a sentence for each
/// step. What was done stays where a later step fails, and is not done again.
///
/// # Errors
/// As [`check`], and a step that the database rejects.
pub async fn distribute(conn: &mut AsyncPgConnection) -> anyhow::Result<Vec<String>> {
    check(conn).await?;
    let current = list_current(conn).await?;
    let current: HashMap<&str, &Current> = current
        .iter()
        .map(|current| (current.table.as_str(), current))
        .collect();
    let mut to_move = Vec::new();
    for (table, wanted) in TABLES {
        let found = current
            .get(table)
            .with_context(|| format!("the table `{table}` doesn't exist"))?;
        if found.placement.must_move(table, *wanted)? {
            to_move.push((*table, *wanted));
        }
    }
    let mut steps = create_functions(conn).await?;
    for (table, wanted) in to_move {
        let moved = move_table(conn, table, wanted).await;
        moved.with_context(|| {
            format!("cannot distribute the table `{table}`; to continue, run this again")
        })?;
        steps.push(format!("the table `{table}` is {}", wanted.text()));
    }
    // Also where an earlier run ended before this.
    for Current { table, .. } in list_current(conn)
        .await?
        .iter()
        .filter(|current| current.has_local_copy)
    {
        let statement = Sql::<()>::new("select truncate_local_data_after_distributing_table((")
            .bind(table.as_str());
        statement.push("::text)::regclass)").execute(conn).await.with_context(|| {
            format!("cannot remove the coordinator's own copy of the table `{table}`; to continue, run this again")
        })?;
        steps.push(format!(
            "the coordinator's own copy of the table `{table}` is removed"
        ));
    }
    Ok(steps)
}

async fn has_extension(conn: &mut AsyncPgConnection) -> QueryResult<bool> {
    let statement =
        Sql::<Bool>::new("select exists (select from pg_extension where extname = 'citus')");
    statement.get_result(conn).await
}

/// Rejects a database whose tables can't be distributed.
async fn check_database(conn: &mut AsyncPgConnection) -> anyhow::Result<()> {
    ensure!(
        has_extension(conn).await?,
        "this is a plain Postgres without the extension Citus, so there is nothing to distribute the tables to; if it \
         has Citus, run `create extension citus` in this database on every node"
    );
    let is_coordinator: bool = Sql::<Bool>::new("select citus_is_coordinator()")
        .get_result(conn)
        .await?;
    ensure!(
        is_coordinator,
        "this node is not the coordinator: `database.url` must name the coordinator"
    );
    let workers: i64 = Sql::<BigInt>::new(
        "select count(*) from pg_dist_node where isactive and noderole = 'primary' and shouldhaveshards",
    )
    .get_result(conn)
    .await?;
    ensure!(
        workers > 0,
        "the coordinator knows no active workers: add them with `select citus_add_node(host, port)`"
    );
    Ok(())
}

/// Rejects a role that doesn't own the tables.
async fn check_owner(conn: &mut AsyncPgConnection, current: &[Current]) -> anyhow::Result<()> {
    let Some(foreign) = current.iter().find(|current| !current.is_owned) else {
        return Ok(());
    };
    let role: String = Sql::<Text>::new("select current_user::text")
        .get_result(conn)
        .await?;
    bail!(
        "the role `{role}` doesn't own the table `{}`: run this with the role that migrates, which owns the tables",
        foreign.table
    )
}

type CurrentRow = (String, Option<String>, Option<String>, bool, bool);

async fn list_current(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Current>> {
    let names: Vec<String> = TABLES
        .iter()
        .map(|(table, _)| (*table).to_owned())
        .collect();
    let statement = Sql::<(Text, Nullable<Text>, Nullable<Text>, Bool, Bool)>::new(
        "select c.relname::text, p.repmodel::text, \
         case when p.partmethod = 'h' then column_to_column_name(p.logicalrelid, p.partkey) end, \
         coalesce(p.partmethod = 'h', false) and pg_relation_size(c.oid) > 0, \
         pg_has_role(c.relowner, 'usage') \
         from pg_class c left join pg_dist_partition p on p.logicalrelid = c.oid \
         where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname = any(",
    );
    let rows: Vec<CurrentRow> = statement
        .bind(names)
        .push(") order by c.relname")
        .load(conn)
        .await?;
    let current = |(table, replication, column, has_local_copy, is_owned): CurrentRow| {
        let placement = match (column, replication.as_deref()) {
            (Some(column), _) => CurrentPlacement::Spread(column),
            (None, Some("t")) => CurrentPlacement::Everywhere,
            (None, _) => CurrentPlacement::Local,
        };
        Current {
            table,
            placement,
            has_local_copy,
            is_owned,
        }
    };
    Ok(rows.into_iter().map(current).collect())
}

/// Creates on the workers what they don't have of the functions. Citus does that by itself for
/// those that are created after the workers were added.
async fn create_functions(conn: &mut AsyncPgConnection) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = FUNCTIONS.iter().map(|name| (*name).to_owned()).collect();
    let statement = Sql::<Text>::new(
        "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = current_schema()::regnamespace \
         and not exists (select from pg_dist_object o where o.classid = 'pg_proc'::regclass and o.objid = p.oid) \
         and p.proname = any(",
    );
    let missing: Vec<String> = statement
        .bind(names)
        .push(") order by p.oid")
        .load(conn)
        .await?;
    let mut steps = Vec::new();
    for function in missing {
        let statement =
            Sql::<()>::new("select create_distributed_function((").bind(function.as_str());
        let created = statement.push("::text)::regprocedure)").execute(conn).await;
        created
            .with_context(|| format!("cannot create the function `{function}` on the workers"))?;
        steps.push(format!(
            "the function `{function}` is created on the workers"
        ));
    }
    Ok(steps)
}

async fn move_table(
    conn: &mut AsyncPgConnection,
    table: &str,
    wanted: Placement,
) -> QueryResult<usize> {
    let spread = |column, beside| {
        let statement = Sql::<()>::new("select create_distributed_table((")
            .bind(table)
            .push("::text)::regclass, ");
        statement
            .bind(column)
            .push("::text, colocate_with => ")
            .bind(beside)
            .push("::text)")
    };
    let statement = match wanted {
        Placement::Beside { column, table } => spread(column, table),
        Placement::Alone { column } => spread(column, "none"),
        Placement::Coordinator => return Ok(0),
    };
    statement.execute(conn).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_distributed_in_another_way_is_refused() {
        let by_user = CurrentPlacement::Spread("user_id".to_owned());

        assert!(CurrentPlacement::Local.must_move("users", BY_USER).unwrap());
        assert!(
            !CurrentPlacement::Local
                .must_move("outbox", Placement::Coordinator)
                .unwrap()
        );
        assert!(!by_user.must_move("users", BY_USER).unwrap());
        let refused = by_user
            .must_move(
                "tokens",
                Placement::Alone {
                    column: "token_hash",
                },
            )
            .unwrap_err()
            .to_string();
        assert!(refused.starts_with(
            "the table `tokens` is distributed by `user_id`, but must be distributed by"
        ));
        assert!(by_user.must_move("outbox", Placement::Coordinator).is_err());
        assert!(
            CurrentPlacement::Everywhere
                .must_move("users", BY_USER)
                .is_err()
        );
    }

    #[test]
    fn a_table_comes_after_the_one_that_it_is_beside() {
        for (index, (table, placement)) in TABLES.iter().enumerate() {
            if let Placement::Beside {
                column,
                table: beside,
            } = placement
            {
                let first = TABLES[..index].iter().find(|(name, _)| name == beside);
                assert_eq!(
                    first.and_then(|(_, placement)| placement.column()),
                    Some(*column),
                    "{table}"
                );
            }
        }
    }
}
