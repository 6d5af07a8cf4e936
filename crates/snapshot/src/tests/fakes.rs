//! The fake refuses what must not happen.

use futures::FutureExt as _;

use super::*;
use crate::testing::{Call, TestSnapshotter};

#[tokio::test]
async fn layers_in_use_cannot_be_removed() {
    let snapshotter = TestSnapshotter::new().await.unwrap();
    let stack = layer(&snapshotter, "base", &[], |root| write(root, "x", "")).await.unwrap();
    let view = snapshotter.view(&stack).await.unwrap();
    let removal = std::panic::AssertUnwindSafe(snapshotter.remove(&stack[0])).catch_unwind().await;
    assert!(removal.is_err());
    drop(view);
    let active = snapshotter.prepare(key("top"), &stack).await.unwrap();
    assert!(snapshotter.is_used(&stack[0]));
    assert_eq!(snapshotter.active(), 1);
    active.commit().await.unwrap();
    assert_eq!(snapshotter.active(), 0);
    snapshotter.remove(&stack[0]).await.unwrap();
}

#[tokio::test]
async fn faults_come_when_asked_for_and_discard_the_layer() {
    let snapshotter = TestSnapshotter::new().await.unwrap();
    snapshotter.fail_next(Call::Commit);
    let failed = layer(&snapshotter, "base", &[], |root| write(root, "x", "")).await;
    assert_eq!(failed.unwrap_err().to_string(), "injected fault in `Commit`");
    assert_eq!(snapshotter.active(), 0);
    layer(&snapshotter, "base", &[], |root| write(root, "x", "")).await.unwrap();
}
