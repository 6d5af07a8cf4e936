//! Who is asking, and who gets to know.

use std::time::Duration;

use async_trait::async_trait;
use digests::Digest;
use oci::{Descriptor, media};
use parking_lot::Mutex;
use registry::{
    Access, BlobPush, BlobSource, Credentials, CredentialsError, Login, Registry, RegistryError,
    Secret, Token, TokenRequest,
};
use std::sync::Arc;

use crate::scripted::{Answer, Asked, Server, answer, plain, registry, status};

const MANIFEST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

/// Someone with a login, or with tokens of their own.
#[derive(Debug, Default)]
struct Someone {
    identity: &'static str,
    login: Option<Login>,
    token: Option<&'static str>,
    requests: Mutex<Vec<TokenRequest>>,
    hosts: Mutex<Vec<String>>,
}

#[async_trait]
impl Credentials for Someone {
    fn identity(&self) -> &str {
        self.identity
    }

    async fn token(&self, request: &TokenRequest) -> Result<Option<Token>, CredentialsError> {
        self.requests.lock().push(request.clone());
        let expires_in = Duration::from_secs(600);
        Ok(self.token.map(|token| Token { secret: Secret::new(token), expires_in }))
    }

    async fn login(&self, host: &str) -> Result<Option<Login>, CredentialsError> {
        self.hosts.lock().push(host.to_owned());
        Ok(self.login.clone())
    }
}

fn login(username: &str, secret: &str) -> Option<Login> {
    Some(Login { username: username.to_owned(), secret: Secret::new(secret) })
}

fn found() -> Answer {
    let digest = Digest::of(MANIFEST).to_string();
    answer(200, &[("content-type", media::OCI_INDEX), ("docker-content-digest", &digest)], MANIFEST)
}

/// Answers as a registry that wants a token whose text is what it is for.
fn wants_token(asked: &Asked, realm: &str, token: &str) -> Answer {
    if asked.header("authorization") == format!("Bearer {token}") {
        return found();
    }
    let challenge =
        format!(r#"Bearer realm="{realm}",service="here",scope="repository:a:pull",error="x""#);
    answer(401, &[("www-authenticate", &challenge)], "")
}

async fn desk(script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(script).await
}

#[tokio::test]
async fn anyone_gets_a_token_and_it_is_kept() {
    let desk = desk(|_, _| answer(200, &[], r#"{"token":"t","expires_in":600}"#)).await;
    let realm = desk.url("/token");
    let server = Server::start(move |asked, _| wants_token(asked, &realm, "t")).await;
    let registry = registry(server.plain());
    let access = Access::anonymous();
    for _ in 0..3 {
        registry.resolve(&server.reference("a"), &access).await.unwrap();
    }
    assert_eq!(desk.lines(), ["GET /token?service=here&scope=repository%3Aa%3Apull"]);
    assert_eq!(server.asked().len(), 4);

    // Another repository needs another token, but nobody has to say so.
    registry.resolve(&server.reference("b"), &access).await.unwrap();
    assert_eq!(desk.lines()[1], "GET /token?service=here&scope=repository%3Ab%3Apull");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn who_can_get_tokens_is_asked_for_one() {
    let server = Server::start(|asked, _| wants_token(asked, "https://a.example/t", "own")).await;
    let someone = Arc::new(Someone { identity: "x", token: Some("own"), ..Someone::default() });
    let access = Access::new(someone.clone());
    registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap();
    let request = TokenRequest {
        host: server.host(),
        realm: "https://a.example/t".to_owned(),
        service: "here".to_owned(),
        scopes: vec!["repository:a:pull".to_owned()],
    };
    assert_eq!(*someone.requests.lock(), [request]);
    assert!(someone.hosts.lock().is_empty());
}

#[tokio::test]
async fn a_login_is_turned_into_a_token_in_the_newer_way() {
    let desk = desk(|_, _| answer(200, &[], r#"{"access_token":"t"}"#)).await;
    let realm = desk.url("/token");
    let server = Server::start(move |asked, _| wants_token(asked, &realm, "t")).await;
    for (username, expected) in [
        ("me", "grant_type=password&username=me&password=s%26cret"),
        ("", "grant_type=refresh_token&refresh_token=s%26cret"),
    ] {
        let someone = Someone { login: login(username, "s&cret"), ..Someone::default() };
        let access = Access::new(Arc::new(someone));
        registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap();
        let asked = desk.asked().pop().unwrap();
        let form = String::from_utf8(asked.body.to_vec()).unwrap();
        assert_eq!(asked.method, "POST");
        assert_eq!(
            form,
            format!("client_id=larder&service=here&scope=repository%3Aa%3Apull&{expected}")
        );
    }
}

#[tokio::test]
async fn a_desk_that_knows_only_the_older_way_is_asked_so() {
    for refusal in [401, 404, 405] {
        let desk = desk(move |asked, _| match asked.method.as_str() {
            "POST" => status(refusal),
            _ => answer(200, &[], r#"{"token":"t"}"#),
        })
        .await;
        let realm = desk.url("/token");
        let server = Server::start(move |asked, _| wants_token(asked, &realm, "t")).await;
        let someone = Someone { login: login("me", "secret"), ..Someone::default() };
        let access = Access::new(Arc::new(someone));
        registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap();
        assert_eq!(desk.asked()[1].header("authorization"), "Basic bWU6c2VjcmV0");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_refusal_with_the_reason() {
    let desk =
        desk(|_, _| answer(401, &[], r#"{"details":"incorrect username or password"}"#)).await;
    let realm = desk.url("/token");
    let server = Server::start(move |asked, _| wants_token(asked, &realm, "t")).await;
    let someone = Someone { login: login("me", "hunter2"), ..Someone::default() };
    let access = Access::new(Arc::new(someone));
    let error =
        registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
    assert!(error.to_string().ends_with(": incorrect username or password"), "{error}");
    assert!(!format!("{error:?} {access:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_desk_that_answers_garbage_is_an_error_and_never_shows_the_token() {
    for body in
        ["<html>", "{}", r#"{"token":"sesame\n"}"#, r#"{"token":"sesame","expires_in":"x"}"#]
    {
        let desk = desk(move |_, _| answer(200, &[], body)).await;
        let realm = desk.url("/token");
        let server = Server::start(move |asked, _| wants_token(asked, &realm, "t")).await;
        let access = Access::anonymous();
        let error =
            registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap_err();
        assert!(matches!(error, RegistryError::Garbage { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
    }
    let server = Server::start(|asked, _| wants_token(asked, "file:///etc/passwd", "t")).await;
    let access = Access::anonymous();
    let error =
        registry(server.plain()).resolve(&server.reference("a"), &access).await.unwrap_err();
    assert!(error.to_string().contains("`file:///etc/passwd`"), "{error}");
}

#[tokio::test]
async fn a_password_goes_along_where_that_is_asked_for() {
    let server = Server::start(|asked, _| match asked.header("authorization") {
        "Basic bWU6c2VjcmV0" => found(),
        _ => answer(401, &[("www-authenticate", "Basic realm=x")], ""),
    })
    .await;
    let registry = registry(server.plain());
    let someone =
        Arc::new(Someone { identity: "me", login: login("me", "secret"), ..Someone::default() });
    let access = Access::new(someone.clone());
    registry.resolve(&server.reference("a"), &access).await.unwrap();
    registry.resolve(&server.reference("b"), &access).await.unwrap();
    assert_eq!(*someone.hosts.lock(), [server.host(), server.host()]);

    // Someone else does not get what was granted to the first.
    let error = registry.resolve(&server.reference("a"), &Access::anonymous()).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
    assert!(error.to_string().starts_with("pull access denied"), "{error}");
}

#[tokio::test]
async fn a_refused_token_is_got_anew_once() {
    let desk = desk(|_, before| answer(200, &[], format!(r#"{{"token":"t{before}"}}"#))).await;
    let realm = desk.url("/token");
    let current = Arc::new(Mutex::new("t0"));
    let wanted = current.clone();
    let server = Server::start(move |asked, _| wants_token(asked, &realm, *wanted.lock())).await;
    let registry = registry(server.plain());
    let access = Access::anonymous();
    registry.resolve(&server.reference("a"), &access).await.unwrap();
    *current.lock() = "t1";
    registry.resolve(&server.reference("a"), &access).await.unwrap();
    assert_eq!((desk.asked().len(), server.asked().len()), (2, 4));
    *current.lock() = "none";
    assert!(registry.resolve(&server.reference("a"), &access).await.unwrap_err().is_denied());
    assert_eq!((desk.asked().len(), server.asked().len()), (3, 6));
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_a_push_is_got_anew() {
    let blob = b"some blob".as_slice();
    let descriptor = Descriptor::of(media::OCI_LAYER, blob);
    let desk = desk(|_, before| answer(200, &[], format!(r#"{{"token":"t{before}"}}"#))).await;
    let realm = desk.url("/token");
    let server = Server::start(move |asked, _| {
        let wanted = if asked.method == "PUT" { "Bearer t1" } else { "Bearer t0" };
        match asked.method.as_str() {
            _ if asked.header("authorization") != wanted => {
                let challenge = format!(r#"Bearer realm="{realm}",service="here""#);
                answer(401, &[("www-authenticate", &challenge)], "")
            }
            "HEAD" => status(404),
            "POST" => answer(202, &[("location", "/upload/1?state=x")], ""),
            _ => status(201),
        }
    })
    .await;
    let push = BlobPush::new(BlobSource::Bytes(blob.into()));
    let access = Access::anonymous();
    registry(server.plain())
        .push_blob(&server.reference("a"), &descriptor, push, &access)
        .await
        .unwrap();
    let last = server.asked().pop().unwrap();
    assert_eq!((last.method.as_str(), last.body.as_ref()), ("PUT", blob));
    assert_eq!(desk.lines()[1], "GET /token?service=here&scope=repository%3Aa%3Apull%2Cpush");
}

#[tokio::test]
async fn what_is_secret_does_not_follow_a_redirect_to_another_host() {
    let blob = b"some blob".as_slice();
    let descriptor = Descriptor::of(media::OCI_LAYER, blob);
    let store = Server::start(move |_, _| answer(200, &[], blob)).await;
    let location = store.url("/signed?key=1");
    let server = Server::start(move |asked, _| {
        if asked.header("authorization") != "Basic bWU6c2VjcmV0" {
            return answer(401, &[("www-authenticate", "Basic")], "");
        }
        match asked.path.as_str() {
            "/moved" => answer(307, &[("location", &location)], ""),
            _ => answer(302, &[("location", "/moved")], ""),
        }
    })
    .await;
    let someone = Someone { login: login("me", "secret"), ..Someone::default() };
    let access = Access::new(Arc::new(someone));
    let registry = registry(plain(&[&server, &store]));
    let stream = registry.blob(&server.reference("a"), &descriptor, &access).await.unwrap();
    let chunks: Vec<_> = futures::TryStreamExt::try_collect(stream).await.unwrap();
    let _: &Vec<bytes::Bytes> = &chunks;
    assert_eq!(chunks.concat(), blob);
    assert_eq!(store.lines(), ["GET /signed?key=1"]);
    assert_eq!(store.asked()[0].header("authorization"), "");
    // On the same host it does follow.
    let moved = server.asked().into_iter().find(|asked| asked.path == "/moved").unwrap();
    assert_eq!(moved.header("authorization"), "Basic bWU6c2VjcmV0");
}

#[tokio::test]
async fn a_store_that_refuses_is_not_told_the_password() {
    let store = Server::start(|_, _| answer(401, &[("www-authenticate", "Basic")], "")).await;
    let location = store.url("/x");
    let server = Server::start(move |_, _| answer(307, &[("location", &location)], "")).await;
    let someone = Someone { login: login("me", "secret"), ..Someone::default() };
    let access = Access::new(Arc::new(someone));
    let descriptor = Descriptor::of(media::OCI_LAYER, b"x");
    let registry = registry(plain(&[&server, &store]));
    let error = registry.blob(&server.reference("a"), &descriptor, &access).await.err().unwrap();
    assert!(error.is_denied(), "{error:?}");
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_empty()));
}

#[test]
fn secrets_do_not_show() {
    let login = login("me", "hunter2").unwrap();
    let token = Token { secret: Secret::new("hunter2"), expires_in: Duration::ZERO };
    assert!(!format!("{login:?} {token:?}").contains("hunter2"));
}
