//! Files from a web server of this machine, and files that clients upload.

use std::sync::Arc;

use bridge::{SourceMetaRequest, SourceResolver as _};
use digests::Digest;
use llb::{HttpOptions, OpOptions, State};
use session::testing::FakeClient;

use crate::server::{Answer, Asked, Server};
use crate::world::World;

fn file(url: &str, http: HttpOptions) -> State {
    State::http(url, http, OpOptions::named("file"))
}

fn plain(url: &str) -> State {
    file(url, HttpOptions::default())
}

/// Serves one file with validators, as long as nobody has it already.
async fn serve(text: &'static str) -> Server {
    Server::start(move |asked: &Asked| {
        if asked.header("if-none-match") == Some("\"one\"") {
            return Answer::status(304);
        }
        let answer = Answer::ok(text).header("ETag", "\"one\"");
        answer.header("Last-Modified", "Tue, 15 Nov 1994 08:12:31 GMT")
    })
    .await
}

#[tokio::test]
async fn a_file_is_a_tree_with_that_file() {
    let world = World::new().await;
    let server = serve("hello").await;
    let built = world.build(&plain(&server.url("/a/file.txt?x=1"))).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/file.txt"]);
    assert_eq!(world.read(&built.tree, "/file.txt").await, "hello");
    let stat = world.stat(&built.tree, "/file.txt").await;
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o600, 0, 0));
    assert_eq!(stat.st_mtime, 784_887_151);
    let options = HttpOptions {
        filename: "other".to_owned(),
        mode: Some(0o4755),
        uid: 7,
        gid: 8,
        ..HttpOptions::default()
    };
    let built = world.build(&file(&server.url("/a/file.txt?x=1"), options)).await.unwrap();
    let stat = world.stat(&built.tree, "/other").await;
    assert_eq!((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o4755, 7, 8));
}

#[tokio::test]
async fn an_unchanged_file_is_not_sent_again_even_after_a_restart() {
    let world = World::new().await;
    let server = serve("hello").await;
    world.build(&plain(&server.url("/f"))).await.unwrap();
    let again = world.build(&plain(&server.url("/f"))).await.unwrap();
    assert!(again.ran().is_empty(), "{:?}", again.ran());
    let world = world.reopen().await;
    let again = world.build(&plain(&server.url("/f"))).await.unwrap();
    assert_eq!(world.read(&again.tree, "/f").await, "hello");
    let sent =
        server.asked().iter().filter(|asked| asked.header("if-none-match").is_none()).count();
    assert_eq!((sent, server.asked().len()), (1, 3));
}

#[tokio::test]
async fn a_checksum_is_held_against_the_file() {
    let world = World::new().await;
    let server = serve("hello").await;
    let with = |digest| HttpOptions { checksum: Some(digest), ..HttpOptions::default() };
    let (right, wrong) = (Digest::of(b"hello"), Digest::of(b"other"));
    world.build(&file(&server.url("/f"), with(right))).await.unwrap();
    let text = world.failure(&file(&server.url("/f"), with(wrong))).await;
    let url = server.url("/f");
    assert_eq!(text, format!("digest mismatch for {url}: {right} (expected: {wrong})"));
    // What is named by its digest needs no question once it is built.
    let before = server.asked().len();
    let again = world.build(&file(&server.url("/f"), with(right))).await.unwrap();
    assert!(again.ran().is_empty());
    assert_eq!(server.asked().len(), before);
}

#[tokio::test]
async fn refusals_name_address_and_status() {
    let world = World::new().await;
    let server = Server::start(|_: &Asked| Answer::status(404)).await;
    let text = world.failure(&plain(&server.url("/gone"))).await;
    assert!(text.contains("invalid response status 404"), "{text}");
    assert!(text.contains(&server.url("/gone")), "{text}");
    let gone = server.stop();
    let text = world.failure(&plain(&gone)).await;
    assert!(text.contains(&format!("cannot get `{gone}`")), "{text}");
}

#[tokio::test]
async fn a_file_that_ends_early_is_none() {
    let world = World::new().await;
    let server =
        Server::start(|_: &Asked| Answer::ok("short").header("Content-Length", "50")).await;
    let text = world.failure(&plain(&server.url("/f"))).await;
    assert!(text.contains("cannot get"), "{text}");
}

#[tokio::test]
async fn a_server_sends_elsewhere_and_gives_names_but_not_everybody_gets_the_secret() {
    let world = World::new().await;
    let target = Server::start(|_: &Asked| {
        Answer::ok("there").header("Content-Disposition", "attachment; filename=\"../given\"")
    })
    .await;
    let elsewhere = target.url("/there");
    let first =
        Server::start(move |_: &Asked| Answer::status(302).header("Location", &elsewhere)).await;
    let client = FakeClient::new().with_secret("HTTP_AUTH_TOKEN_127.0.0.1", "word\n");
    let _client = client.connect(&world.sessions, "one").await.unwrap();
    let built = world.build_for(&plain(&first.url("/here")), ["one"]).await.unwrap();
    assert_eq!(world.list(&built.tree).await, ["/given"]);
    assert_eq!(first.asked()[0].header("authorization"), Some("Bearer word"));
    assert_eq!(target.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_secret_that_is_named_must_be_there_and_is_sent_as_it_is() {
    let world = World::new().await;
    let server = serve("hello").await;
    let options = HttpOptions {
        auth_header_secret: "mine".to_owned(),
        headers: [("accept".to_owned(), "text/x".to_owned())].into(),
        ..HttpOptions::default()
    };
    let state = file(&server.url("/f"), options);
    assert_eq!(world.failure(&state).await, "failed to load cache key: secret mine: not found");
    let client = FakeClient::new().with_secret("mine", "Basic abc");
    let _client = client.connect(&world.sessions, "one").await.unwrap();
    world.build_for(&state, ["one"]).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some("Basic abc"));
    assert_eq!(asked[0].header("accept"), Some("text/x"));
}

#[tokio::test]
async fn an_upload_is_taken_once_and_used_often() {
    let world = World::new().await;
    let client = FakeClient::new().with_upload("abc", "uploaded");
    let _client = client.connect(&world.sessions, "one").await.unwrap();
    let named = |name: &str| {
        let options = HttpOptions { filename: name.to_owned(), ..HttpOptions::default() };
        file("http://buildkit-session/abc", options)
    };
    for name in ["context", "other"] {
        let built = world.build_for(&named(name), ["one"]).await.unwrap();
        assert_eq!(world.read(&built.tree, &format!("/{name}")).await, "uploaded");
    }
    let text = world.failure(&plain("http://buildkit-session/none")).await;
    assert!(text.contains("upload `none`"), "{text}");
}

#[tokio::test]
async fn a_question_is_answered_with_digest_and_name() {
    let world = World::new().await;
    let server = serve("hello").await;
    let request = SourceMetaRequest {
        identifier: server.url("/f"),
        attributes: Default::default(),
        platform: None,
        log_name: String::new(),
        mode: Default::default(),
        with_config: false,
    };
    let ops = Arc::new(world.ops.clone());
    let meta = ops.resolve(&[], &request).await.unwrap();
    assert_eq!(meta.file, Some((Digest::of(b"hello"), "f".to_owned())));
}
