//! The calls, in the order in which both doors get them.

/// One call. In a request `{next}`, `{delivery}`, `{token}` and `{connection}` stand for what the answers before gave,
/// and `{code …}` for the newest code that was sent to an address.
pub struct Case {
    /// `service`, `reader`, a user by id; anything else has no token.
    pub who: &'static str,
    pub rpc: &'static str,
    /// In proto3 JSON; a list is a stream.
    pub request: &'static str,
    /// `OK`, or the reason.
    pub expected: &'static str,
}

const fn case(who: &'static str, rpc: &'static str, request: &'static str, expected: &'static str) -> Case {
    Case { who, rpc, request, expected }
}

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    // Fields
    case("service", "CreateField", r#"{"field": {"name": "score", "type": "FIELD_TYPE_NUMBER", "indexed": true}}"#, "OK"),
    case("service", "CreateField", r#"{"field": {"name": "tags", "type": "FIELD_TYPE_ARRAY", "itemType": "FIELD_TYPE_STRING"}}"#, "OK"),
    case("service", "CreateField", r#"{"field": {"name": "motto", "type": "FIELD_TYPE_STRING", "userWritable": true}}"#, "OK"),
    case("service", "CreateField", r#"{"field": {"name": "score", "type": "FIELD_TYPE_STRING"}}"#, "FIELD_EXISTS"),
    case("service", "CreateField", r#"{"field": {"name": "_x", "type": "FIELD_TYPE_ARRAY"}}"#, "INVALID_REQUEST"),
    case("service", "ListFields", "{}", "OK"),
    case("reader", "ListFields", "{}", "OK"),
    case("nobody", "ListFields", "{}", "TOKEN_MISSING"),
    case("service", "UpdateField", r#"{"field": {"name": "motto", "description": "一期一会"}, "updateMask": "description"}"#, "OK"),
    case("service", "UpdateField", r#"{"field": {"name": "nothing", "description": "x"}, "updateMask": "description"}"#, "FIELD_NOT_FOUND"),
    // Users
    case("service", "CreateUser", r#"{"profile": {"userId": "101", "nickname": "Ann 安", "gender": 1, "groupIds": ["258", "360"], "customFields": {"score": 1.5, "tags": ["a"]}}, "account": {"username": "ann.lee", "email": "Ann@Example.org", "emailVerified": true, "phone": "+8613800138000", "phoneVerified": true}, "password": "violet-lantern-93"}"#, "OK"),
    case("service", "CreateUser", r#"{"profile": {"userId": "102", "nickname": "Ben", "openid": "o-ben", "customFields": {"score": 7}}, "requestId": "9b2f3a52-0001-4d0e-8a70-6d4f3f9d0001"}"#, "OK"),
    case("service", "CreateUser", r#"{"profile": {"userId": "102", "nickname": "Ben", "openid": "o-ben", "customFields": {"score": 7}}, "requestId": "9b2f3a52-0001-4d0e-8a70-6d4f3f9d0001"}"#, "OK"),
    case("service", "CreateUser", r#"{"profile": {"nickname": "Else"}, "requestId": "9b2f3a52-0001-4d0e-8a70-6d4f3f9d0001"}"#, "REQUEST_ID_REUSED"),
    case("service", "CreateUser", r#"{"profile": {"nickname": "Cy"}}"#, "OK"),
    case("service", "CreateUser", r#"{"profile": {"nickname": "Trial"}, "validateOnly": true}"#, "OK"),
    case("service", "CreateUser", r#"{"profile": {"userId": "101"}}"#, "USER_ID_TAKEN"),
    case("service", "CreateUser", r#"{"account": {"username": "ANN.LEE", "email": "ann@example.org"}}"#, "USERNAME_TAKEN"),
    case("service", "CreateUser", r#"{"profile": {"gender": 7, "nickname": "a\u0007", "etag": "1", "customFields": {"scoer": 1, "tags": [1]}}, "account": {"email": "nobody", "phone": "138"}}"#, "INVALID_REQUEST"),
    case("101", "CreateUser", "{}", "SCOPE_MISSING"),
    case("service", "ImportUsers", r#"[{"user": {"profile": {"nickname": "Dora"}}}, {"user": {"account": {"username": "ann.lee"}}}, {"user": {"profile": {"gender": 9}}}, {"user": {}}]"#, "OK"),
    case("reader", "ImportUsers", r#"[{"user": {"profile": {"nickname": "Dora"}}}]"#, "SCOPE_MISSING"),
    case("service", "LinkConnection", r#"{"userId": "102", "provider": "github", "subject": "ben-7", "displayName": "Ben"}"#, "OK"),
    case("service", "LinkConnection", r#"{"userId": "101", "provider": "github", "subject": "ben-7"}"#, "CONNECTION_TAKEN"),
    case("service", "LinkConnection", r#"{"userId": "999", "provider": "github", "subject": "x"}"#, "USER_NOT_FOUND"),
    case("service", "LinkConnection", r#"{"userId": "101", "provider": "no such"}"#, "INVALID_REQUEST"),
    // Reading
    case("service", "GetProfile", r#"{"userId": "101"}"#, "OK"),
    case("101", "GetProfile", "{}", "OK"),
    case("101", "GetProfile", r#"{"readMask": "account,nickname,customFields.score"}"#, "OK"),
    case("service", "GetProfile", r#"{"username": "Ann.Lee", "readMask": "nickname"}"#, "OK"),
    case("service", "GetProfile", r#"{"email": "ann@EXAMPLE.org"}"#, "OK"),
    case("service", "GetProfile", r#"{"connection": {"provider": "github", "subject": "ben-7"}}"#, "OK"),
    case("service", "GetProfile", r#"{"openid": "o-nobody"}"#, "USER_NOT_FOUND"),
    case("service", "GetProfile", r#"{"userId": "999"}"#, "USER_NOT_FOUND"),
    case("service", "GetProfile", r#"{"userId": "-5"}"#, "INVALID_REQUEST"),
    case("service", "GetProfile", r#"{"userId": "101", "readMask": "nikname"}"#, "INVALID_REQUEST"),
    case("reader", "GetProfile", r#"{"email": "ann@example.org"}"#, "SCOPE_MISSING"),
    case("102", "GetProfile", r#"{"userId": "101"}"#, "NOT_OWNER"),
    case("stale", "GetProfile", r#"{"userId": "101"}"#, "TOKEN_INVALID"),
    case("service", "ListProfiles", r#"{"orderBy": "-created_at", "pageSize": 2, "returnTotalSize": true}"#, "OK"),
    case("service", "ListProfiles", r#"{"orderBy": "-created_at", "pageSize": 2, "pageToken": "{next}"}"#, "OK"),
    case("service", "ListProfiles", r#"{"orderBy": "created_at", "pageToken": "{next}"}"#, "PAGE_TOKEN_MISMATCH"),
    case("service", "ListProfiles", r#"{"pageToken": "none"}"#, "PAGE_TOKEN_INVALID"),
    case("service", "ListProfiles", r#"{"filter": {"$or": [{"score": {"$gte": 7}}, {"nickname": {"$contains": "安"}}]}, "orderBy": "score"}"#, "OK"),
    case("service", "ListProfiles", r#"{"filter": {"email": "ann@example.org"}, "readMask": "account"}"#, "OK"),
    case("service", "ListProfiles", r#"{"filter": {"scoer": 1}}"#, "FILTER_INVALID"),
    case("service", "ListProfiles", r#"{"filter": {"$or": [{"score": {"$between": [1, 2]}}, {"tags": {"$lt": 1}}]}}"#, "FILTER_INVALID"),
    case("service", "ListProfiles", r#"{"orderBy": "tags"}"#, "ORDER_BY_UNSUPPORTED"),
    case("service", "ListProfiles", r#"{"pageSize": -1, "skip": -1}"#, "INVALID_REQUEST"),
    case("101", "ListProfiles", "{}", "SCOPE_MISSING"),
    // Changing
    case("101", "UpdateProfile", r#"{"profile": {"nickname": "Anna", "city": "广州"}, "updateMask": "nickname,city", "customFields": {"motto": "m"}}"#, "OK"),
    case("service", "UpdateProfile", r#"{"userId": "101", "customFields": {"score": {"$incr_by": 0.25}, "tags": {"$append_unique": ["a", "b"]}, "motto": null}}"#, "OK"),
    case("service", "UpdateProfile", r#"{"userId": "101", "profile": {"nickname": "Late"}, "updateMask": "nickname", "etag": "1"}"#, "ETAG_MISMATCH"),
    case("service", "UpdateProfile", r#"{"userId": "101", "customFields": {"score": {"$incr_by": 1e308}}, "validateOnly": true}"#, "OK"),
    case("service", "UpdateProfile", r#"{"userId": "101", "customFields": {"motto": {"$incr_by": 1}}}"#, "OP_TYPE_MISMATCH"),
    case("service", "UpdateProfile", r#"{"userId": "101"}"#, "INVALID_REQUEST"),
    case("service", "UpdateProfile", r#"{"userId": "101", "profile": {"createdBy": "7"}, "updateMask": "createdBy,account,nikname"}"#, "INVALID_REQUEST"),
    case("101", "UpdateProfile", r#"{"customFields": {"score": 100}}"#, "SCOPE_MISSING"),
    case("service", "BulkUpdateFields", r#"{"filter": {"score": {"$exists": true}}, "customFields": {"score": {"$incr_by": 1}}, "returnTotalSize": true, "limit": 1}"#, "OK"),
    case("service", "BulkUpdateFields", r#"{"filter": {"score": {"$exists": true}}, "customFields": {"score": {"$incr_by": 1}}, "limit": 1, "pageToken": "{next}"}"#, "OK"),
    case("service", "BulkUpdateFields", r#"{"customFields": {"score": 1}}"#, "FILTER_REQUIRED"),
    case("service", "BulkUpdateFields", r#"{"allowAll": true, "customFields": {"score": 1}, "expectedTotal": "77"}"#, "TOTAL_MISMATCH"),
    // Accounts
    case("101", "UpdateAccount", r#"{"account": {"username": "anna.lee"}, "updateMask": "username"}"#, "OK"),
    case("102", "UpdateAccount", r#"{"account": {"username": "ANNA.lee"}, "updateMask": "username"}"#, "USERNAME_TAKEN"),
    case("102", "UpdateAccount", r#"{"account": {"email": "ben@example.org"}, "updateMask": "email"}"#, "PROOF_REQUIRED"),
    case("101", "UpdateAccount", r#"{"newPassword": "amber-harbour-51", "proof": {"currentPassword": "wrong-one-77"}}"#, "PASSWORD_MISMATCH"),
    case("101", "UpdateAccount", r#"{"newPassword": "amber-harbour-51", "proof": {"currentPassword": "violet-lantern-93"}}"#, "OK"),
    case("service", "UpdateAccount", r#"{"userId": "102", "newPassword": "password"}"#, "PASSWORD_REJECTED"),
    case("service", "UpdateAccount", r#"{"userId": "102", "unlinkConnectionId": "{connection}"}"#, "OK"),
    case("service", "UpdateAccount", r#"{"userId": "102", "unlinkConnectionId": "{connection}"}"#, "CONNECTION_NOT_FOUND"),
    case("service", "UpdateAccount", r#"{"userId": "101", "account": {"phone": "12", "hasPassword": true}, "updateMask": "phone,hasPassword,nothing"}"#, "INVALID_REQUEST"),
    case("service", "VerifyPassword", r#"{"username": "Anna.Lee", "password": "amber-harbour-51", "client": "c1"}"#, "OK"),
    case("service", "VerifyPassword", r#"{"email": "ann@example.org", "password": "violet-lantern-93", "client": "c1"}"#, "PASSWORD_MISMATCH"),
    // Codes
    case("102", "SendEmailCode", r#"{"purpose": "CODE_PURPOSE_BIND", "email": "ben@example.org", "appName": "Acme", "language": "en"}"#, "OK"),
    case("102", "SendEmailCode", r#"{"purpose": "CODE_PURPOSE_BIND", "email": "ben@example.org"}"#, "CODE_SEND_COOLDOWN"),
    case("102", "SendEmailCode", r#"{"purpose": "CODE_PURPOSE_REPLACE"}"#, "ADDRESS_NOT_BOUND"),
    case("service", "GetDelivery", r#"{"deliveryId": "{delivery}"}"#, "OK"),
    case("service", "GetDelivery", r#"{"deliveryId": "77777"}"#, "DELIVERY_NOT_FOUND"),
    case("102", "ConfirmEmailChange", r#"{"email": "ben@example.org", "code": "12345"}"#, "INVALID_REQUEST"),
    case("102", "ConfirmEmailChange", r#"{"email": "other@example.org", "code": "{code ben@example.org}"}"#, "CODE_NOT_REQUESTED"),
    case("102", "ConfirmEmailChange", r#"{"email": "ben@example.org", "code": "{code ben@example.org}"}"#, "OK"),
    case("102", "ConfirmEmailChange", r#"{"email": "ben@example.org", "code": "{code ben@example.org}"}"#, "CODE_USED"),
    case("102", "SendPhoneCode", r#"{"purpose": "CODE_PURPOSE_BIND", "phone": "+4930123456", "language": "zh"}"#, "OK"),
    case("102", "SendPhoneCode", r#"{"purpose": "CODE_PURPOSE_BIND", "phone": "030123456", "language": "_"}"#, "INVALID_REQUEST"),
    case("102", "UpdateAccount", r#"{"account": {"phone": "+4930123456"}, "updateMask": "phone", "proof": {"newCode": "{code +4930123456}"}}"#, "OK"),
    // Tokens
    case("service", "IssueToken", r#"{"service": "billing", "scopes": ["profiles.read"], "ttl": "3600s"}"#, "OK"),
    case("service", "IssueToken", r#"{"service": "billing", "scopes": ["profiles.raed"], "ttl": "-1s"}"#, "INVALID_REQUEST"),
    case("service", "ListTokens", r#"{"service": "billing"}"#, "OK"),
    case("service", "ListTokens", r#"{"service": "billing", "pageSize": -1}"#, "INVALID_REQUEST"),
    case("service", "RevokeToken", r#"{"tokenId": "{token}"}"#, "OK"),
    case("service", "RevokeToken", r#"{"tokenId": "77777"}"#, "TOKEN_NOT_FOUND"),
    // The end
    case("service", "DeleteField", r#"{"name": "tags"}"#, "OK"),
    case("service", "DeleteField", r#"{"name": "tags"}"#, "FIELD_NOT_FOUND"),
    case("service", "DeleteUser", r#"{"userId": "101"}"#, "OK"),
    case("service", "DeleteUser", r#"{"userId": "101"}"#, "USER_NOT_FOUND"),
];
