//! Accounts and codes, as tests ask for them.

use tonic::Status;
use user_service::convert::pb::{self, CodeChannel, CodePurpose};

use super::{Client, TestApp};

/// A new user with this account; what of it is set is as `account` says.
pub fn member(account: pb::Account) -> pb::CreateUserRequest {
    pb::CreateUserRequest {
        account: Some(account),
        ..Default::default()
    }
}

/// An account with these verified addresses; an empty one is absent.
pub fn given(email: &str, phone: &str) -> pb::Account {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    pb::Account {
        email: some(email),
        email_verified: !email.is_empty(),
        phone: some(phone),
        phone_verified: !phone.is_empty(),
        ..Default::default()
    }
}

/// A change of these fields of an account.
pub fn named(account: pb::Account, paths: &[&str]) -> pb::UpdateAccountRequest {
    pb::UpdateAccountRequest {
        account: Some(account),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
        ..Default::default()
    }
}

/// Short ways to ask for a change of one's own account.
#[derive(Clone, Debug, Default)]
pub struct Asks(pub pb::UpdateAccountRequest);

impl Asks {
    pub fn email(email: &str) -> Self {
        Self(named(
            pb::Account {
                email: Some(email.to_owned()),
                ..Default::default()
            },
            &["email"],
        ))
    }

    pub fn phone(phone: &str) -> Self {
        Self(named(
            pb::Account {
                phone: Some(phone.to_owned()),
                ..Default::default()
            },
            &["phone"],
        ))
    }

    pub fn username(username: &str) -> Self {
        Self(named(
            pb::Account {
                username: Some(username.to_owned()),
                ..Default::default()
            },
            &["username"],
        ))
    }

    pub fn clear(path: &str) -> Self {
        Self(named(pb::Account::default(), &[path]))
    }

    pub fn password(password: &str) -> Self {
        Self(pb::UpdateAccountRequest {
            new_password: password.to_owned(),
            ..Default::default()
        })
    }

    pub fn wallet_password(password: &str) -> Self {
        Self(pb::UpdateAccountRequest {
            new_wallet_password: password.to_owned(),
            ..Default::default()
        })
    }

    pub fn unlink(unlink_connection_id: i64) -> Self {
        Self(pb::UpdateAccountRequest {
            unlink_connection_id,
            ..Default::default()
        })
    }

    /// Of this user, for a service.
    pub fn of(mut self, user_id: i64) -> Self {
        self.0.user_id = user_id;
        self
    }

    /// Also what `other` changes.
    pub fn and(mut self, other: Asks) -> Self {
        let other = other.0;
        if let Some(account) = other.account {
            let mine = self.0.account.get_or_insert_default();
            mine.username = account.username.or(mine.username.take());
            mine.email = account.email.or(mine.email.take());
            mine.phone = account.phone.or(mine.phone.take());
            self.0
                .update_mask
                .get_or_insert_default()
                .paths
                .extend(other.update_mask.unwrap_or_default().paths);
        }
        self.0.new_password.push_str(&other.new_password);
        self.0
            .new_wallet_password
            .push_str(&other.new_wallet_password);
        self.0.unlink_connection_id += other.unlink_connection_id;
        self
    }

    /// With the code of the new address.
    pub fn new_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.0.proof.get_or_insert_default().new_code);
        self
    }

    /// With the code of the address that is bound.
    pub fn code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.0.proof.get_or_insert_default().code);
        self
    }

    /// With a code that was sent by mail, for a secret or a connection.
    pub fn mailed(self, code: &str) -> Self {
        self.sent(CodeChannel::Email, code)
    }

    /// With a code that was sent by text message, for a secret or a connection.
    pub fn texted(self, code: &str) -> Self {
        self.sent(CodeChannel::Phone, code)
    }

    fn sent(self, channel: CodeChannel, code: &str) -> Self {
        let mut asks = self.code(code);
        asks.0.proof.get_or_insert_default().channel = channel.into();
        asks
    }

    /// With the password in force.
    pub fn current(mut self, password: &str) -> Self {
        password.clone_into(&mut self.0.proof.get_or_insert_default().current_password);
        self
    }

    /// With the wallet password in force.
    pub fn current_wallet(mut self, password: &str) -> Self {
        password.clone_into(&mut self.0.proof.get_or_insert_default().current_wallet_password);
        self
    }

    /// With a request id.
    pub fn once(mut self, request_id: &str) -> Self {
        request_id.clone_into(&mut self.0.request_id);
        self
    }

    /// As a trial.
    pub fn trial(mut self) -> Self {
        self.0.validate_only = true;
        self
    }

    /// Only where the account is still this version.
    pub fn at(mut self, etag: &str) -> Self {
        etag.clone_into(&mut self.0.etag);
        self
    }
}

impl Client {
    /// Changes an account.
    pub async fn update(&mut self, asks: Asks) -> Result<pb::Account, Status> {
        Ok(self
            .users
            .update_account(asks.0)
            .await?
            .into_inner()
            .account
            .unwrap())
    }

    /// Reads an account; 0 is one's own.
    pub async fn account(&mut self, user_id: i64) -> pb::Account {
        let mask = prost_types::FieldMask {
            paths: vec!["account".to_owned()],
        };
        let key = (user_id != 0).then_some(pb::get_profile_request::Key::UserId(user_id));
        let request = pb::GetProfileRequest {
            key,
            read_mask: Some(mask),
        };
        let profile = self
            .users
            .get_profile(request)
            .await
            .unwrap()
            .into_inner()
            .profile
            .unwrap();
        profile.account.unwrap()
    }

    /// Has a code mailed; the address is empty but with BIND.
    pub async fn send_mail(
        &mut self,
        purpose: CodePurpose,
        email: &str,
    ) -> Result<pb::SendEmailCodeResponse, Status> {
        let request = pb::SendEmailCodeRequest {
            purpose: purpose.into(),
            email: email.to_owned(),
            ..Default::default()
        };
        Ok(self.users.send_email_code(request).await?.into_inner())
    }

    /// Has a code texted; the number is empty but with BIND.
    pub async fn send_text(
        &mut self,
        purpose: CodePurpose,
        phone: &str,
    ) -> Result<pb::SendPhoneCodeResponse, Status> {
        let request = pb::SendPhoneCodeRequest {
            purpose: purpose.into(),
            phone: phone.to_owned(),
            ..Default::default()
        };
        Ok(self.users.send_phone_code(request).await?.into_inner())
    }

    /// Has a code sent for an address to be bound.
    pub async fn send_bind(&mut self, address: &str) -> Result<i64, Status> {
        if address.contains('@') {
            Ok(self
                .send_mail(CodePurpose::Bind, address)
                .await?
                .delivery_id)
        } else {
            Ok(self
                .send_text(CodePurpose::Bind, address)
                .await?
                .delivery_id)
        }
    }

    /// Confirms a new email; the code of the bound one may be empty.
    pub async fn confirm(
        &mut self,
        email: &str,
        code: &str,
        current: &str,
    ) -> Result<pb::Account, Status> {
        let request = pb::ConfirmEmailChangeRequest {
            email: email.to_owned(),
            code: code.to_owned(),
            current_email_code: current.to_owned(),
            ..Default::default()
        };
        Ok(self
            .users
            .confirm_email_change(request)
            .await?
            .into_inner()
            .account
            .unwrap())
    }

    /// Links a third-party login.
    pub async fn link(
        &mut self,
        user_id: i64,
        provider: &str,
        subject: &str,
    ) -> Result<pb::Connection, Status> {
        let (provider, subject) = (provider.to_owned(), subject.to_owned());
        let request = pb::LinkConnectionRequest {
            user_id,
            provider,
            subject,
            display_name: String::new(),
            ..Default::default()
        };
        Ok(self
            .admin
            .link_connection(request)
            .await?
            .into_inner()
            .connection
            .unwrap())
    }
}

impl TestApp {
    /// Makes a user with this account and password, which may be empty; gives the id and a client
    /// of the user's. The password moves in as a hash that costs next to nothing.
    pub async fn join(&self, account: pb::Account, password: &str) -> (i64, Client) {
        let password_hash = if password.is_empty() {
            String::new()
        } else {
            cheap_hash(password)
        };
        let request = pb::CreateUserRequest {
            password_hash,
            ..member(account)
        };
        let user_id = self.service().await.create(request).await.unwrap().user_id;
        (user_id, self.user(user_id).await)
    }

    /// The code that proves an address to be bound.
    pub async fn bind_code(&self, client: &mut Client, address: &str) -> String {
        client.send_bind(address).await.unwrap();
        self.newest_code(address).await
    }

    /// A code of another purpose, sent to the bound address.
    pub async fn code(&self, client: &mut Client, purpose: CodePurpose, address: &str) -> String {
        if address.contains('@') {
            client.send_mail(purpose, "").await.map(|_| ()).unwrap()
        } else {
            client.send_text(purpose, "").await.map(|_| ()).unwrap()
        }
        self.newest_code(address).await
    }
}

/// Asks again where the service had too much to do, so that a busy machine changes no count.
pub async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) -> Result<T, Status> {
    loop {
        match call().await {
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tokio::task::yield_now().await
            }
            answer => return answer,
        }
    }
}

/// A hash for tests of something else than hashing.
pub fn cheap_hash(password: &str) -> String {
    bcrypt::hash(password, 4).unwrap()
}

/// Another code than this one.
pub fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}
