//! Listing profiles, page by page.

use std::{collections::HashMap, ops::ControlFlow, time::Duration};

use serde_json::Value;

use super::{Profiles, views};
use crate::{
    domain::page_tokens::QueryTokens,
    error::{Error, Reason, Result},
    model::{
        account::AccountView,
        cursor,
        filter::Filter,
        order::{self, Key, OrderKey},
        page,
        profile::Profile,
    },
    store::listing::{self, Selection, place},
};

/// A page to be listed.
pub struct Listing {
    pub filter: Filter,
    /// The hash of the filter as the request has it, to which page tokens are bound.
    pub query_hash: String,
    /// The sort keys that the request names.
    pub order: Vec<OrderKey>,
    /// Of the page before; empty for the first page.
    pub page_token: String,
    /// Rows to skip before the first page.
    pub skip: i64,
    pub limit: i64,
    /// Whether custom fields are returned.
    pub with_custom_fields: bool,
    pub with_total: bool,
    pub with_accounts: bool,
}

/// A page.
pub struct Page<T> {
    pub rows: Vec<(T, Option<AccountView>)>,
    pub total: Option<i64>,
    pub next: NextPage,
}

/// Where the next page begins.
pub struct NextPage {
    tokens: QueryTokens,
    /// The values of each row by which a token finds it.
    places: Vec<Vec<Value>>,
    /// Whether there are rows beyond those of the page.
    has_more: bool,
}

impl NextPage {
    /// The token of the page that begins after the first `returned` rows of this one; empty if no
    /// row is left.
    pub fn token_after(&self, returned: usize) -> String {
        let has_more = self.has_more || returned < self.places.len();
        match returned
            .checked_sub(1)
            .and_then(|last| self.places.get(last))
        {
            Some(last) if has_more => self.tokens.write(last.clone()),
            _ => String::new(),
        }
    }
}

impl Profiles {
    /// One page of a list. `show` makes of each profile what becomes of it, as they come; with the
    /// first for which it exceeds the budget the page ends.
    ///
    /// # Errors
    /// PAGE_TOKEN_INVALID, PAGE_TOKEN_MISMATCH, PAGE_TOKEN_EXPIRED; QUERY_TOO_SLOW after two
    /// seconds.
    pub async fn list<T: Send>(
        &self,
        listing: Listing,
        mut show: impl FnMut(Profile) -> Option<T> + Send,
    ) -> Result<Page<T>> {
        let Listing {
            limit,
            with_total,
            with_accounts,
            ..
        } = &listing;
        let tokens = self.tokens.of(format!(
            "{} {}",
            listing.query_hash,
            order::signature(&listing.order)
        ));
        let selection = self
            .select(&listing, tokens.read(&listing.page_token)?)
            .await?;
        let search = self.searches.run(async |conn| {
            let total = if *with_total {
                Some(listing::count(conn, &selection.filter).await?)
            } else {
                None
            };
            let (mut user_ids, mut shown, mut places, mut has_more) =
                (Vec::new(), Vec::new(), Vec::new(), false);
            let mut take = |profile: Profile| {
                let user_id = profile.user_id;
                let has_room = (shown.len() as i64) < *limit;
                let place = place(&selection.order, &profile);
                match has_room.then(|| show(profile)).flatten() {
                    Some(made) => {
                        user_ids.push(user_id);
                        places.push(cursor::shorten(place));
                        shown.push(made);
                        ControlFlow::Continue(())
                    }
                    None => {
                        has_more = true;
                        ControlFlow::Break(())
                    }
                }
            };
            listing::list(conn, &selection, &mut take).await?;
            let accounts = if *with_accounts {
                views(conn, user_ids.clone()).await?
            } else {
                Vec::new()
            };
            let mut accounts: HashMap<i64, AccountView> = accounts
                .into_iter()
                .map(|view| (view.account.user_id, view))
                .collect();
            let accounts = user_ids.iter().map(|user_id| accounts.remove(user_id));
            let rows = shown.into_iter().zip(accounts).collect();
            Ok(Page {
                rows,
                total,
                next: NextPage {
                    tokens,
                    places,
                    has_more,
                },
            })
        });
        search_in_time(search).await
    }

    /// What the statement selects after this row: one row more than the page has.
    async fn select(&self, listing: &Listing, after: Option<Vec<Value>>) -> Result<Selection> {
        let order = match &after {
            None => order::with_ties(listing.order.clone()),
            // An index that was declared or removed meanwhile changes how a list begins, not how it
            // goes on.
            Some(place) => {
                order::continued(&listing.order, place.len()).ok_or_else(page::mismatch)?
            }
        };
        let after = match after {
            Some(place) => Some(self.restore(place, &order).await?),
            None => None,
        };
        let sorts_by_custom = order
            .iter()
            .any(|order| matches!(order.key, Key::Custom(_)));
        Ok(Selection {
            filter: self.reads.by_holders(&listing.filter).await?,
            order,
            skip: if after.is_some() { 0 } else { listing.skip },
            after,
            limit: listing.limit + 1,
            with_document: listing.with_custom_fields || sorts_by_custom,
        })
    }

    /// The whole values of the row at which a list continues: a page token has long texts
    /// shortened.
    async fn restore(&self, place: Vec<Value>, order: &[OrderKey]) -> Result<Vec<Value>> {
        if !cursor::is_shortened(&place) {
            return Ok(place);
        }
        let user_id = order
            .iter()
            .zip(&place)
            .find(|(key, _)| key.key == Key::UserId)
            .and_then(|(_, user_id)| user_id.as_i64());
        let row = match user_id {
            Some(user_id) => self.reads.find_profile(user_id).await?,
            None => None,
        };
        let current = row.map(|profile| listing::place(order, &profile));
        Ok(cursor::restore(place, order, current.as_deref()))
    }
}

/// How long a search may take.
const SEARCH: Duration = Duration::from_secs(2);

/// Runs a search, whose statement is cancelled when it takes too long.
///
/// # Errors
/// QUERY_TOO_SLOW after two seconds, and the search's own.
pub(crate) async fn search_in_time<T>(search: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(SEARCH, search)
        .await
        .unwrap_or_else(|_| Err(Error::new(Reason::QueryTooSlow)))
}
