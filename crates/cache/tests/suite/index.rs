//! Results by their keys, as the solver asks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cache::{CacheIndex, ImmutableRef, LayerInfo, Refs};
use digests::{Digest, VertexDigest};
use solver::{
    CacheMap, CacheStore as _, ContentKey, Edge, InputKey, JobId, KeyId, LinkKey, NewRecord, Op,
    OpContext, OpError, OpResolver, Solver, SolverOptions, Vertex,
};

use crate::world::{World, files, put};

/// A step that writes one file over its first input; of an input by content its name is the content.
#[derive(Debug, Clone)]
struct Step {
    file: &'static str,
    content: Option<&'static str>,
}

struct Steps {
    refs: Refs,
    runs: Arc<AtomicUsize>,
}

struct Run {
    refs: Refs,
    runs: Arc<AtomicUsize>,
    step: Step,
    inputs: usize,
}

impl OpResolver<ImmutableRef> for Steps {
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op<ImmutableRef>>, OpError> {
        let step = vertex.payload.downcast_ref::<Step>().unwrap().clone();
        let inputs = vertex.inputs.len();
        Ok(Arc::new(Run { refs: self.refs.clone(), runs: self.runs.clone(), step, inputs }))
    }
}

#[async_trait]
impl Op<ImmutableRef> for Run {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        let content = if self.step.content.is_some() {
            ContentKey::ByContent
        } else {
            ContentKey::ByDefinition
        };
        let inputs = vec![InputKey { selector: None, content }; self.inputs];
        Ok(CacheMap { digest: Digest::of(self.step.file), inputs, volatile: false, pin: None })
    }

    async fn content_key(
        &self,
        _: &OpContext,
        _: usize,
        _: &ImmutableRef,
    ) -> Result<Option<Digest>, OpError> {
        Ok(self.step.content.map(Digest::of))
    }

    async fn exec(
        &self,
        _: &OpContext,
        inputs: Vec<ImmutableRef>,
    ) -> Result<Vec<ImmutableRef>, OpError> {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let base = inputs.into_iter().next().unwrap_or_default();
        let layer = self.refs.new_layer(&base, LayerInfo::regular("step")).await;
        let layer = layer.map_err(OpError::new)?;
        put(&layer.root().unwrap(), self.step.file, "x");
        Ok(vec![layer.commit().await.map_err(OpError::new)?])
    }
}

fn vertex(name: &str, step: Step, inputs: &[&Arc<Vertex>]) -> Arc<Vertex> {
    let inputs: Vec<Edge> = inputs.iter().map(|input| Edge::new((*input).clone(), 0)).collect();
    let mut text = format!("{name}:{}", step.file);
    inputs.iter().for_each(|edge| text.push_str(&edge.vertex.digest.to_string()));
    Arc::new(Vertex {
        digest: VertexDigest::new(Digest::of(text)),
        name: name.to_owned(),
        inputs,
        payload: Arc::new(step),
        ignore_cache: false,
        group: None,
        description: Default::default(),
    })
}

fn step(file: &'static str) -> Step {
    Step { file, content: None }
}

/// Builds a vertex with a solver that knows nothing but the index; returns how many steps ran.
async fn build(world: &World, vertex: &Arc<Vertex>) -> (ImmutableRef, usize) {
    let runs = Arc::new(AtomicUsize::new(0));
    let steps = Steps { refs: world.refs.clone(), runs: runs.clone() };
    let store = Arc::new(world.index.clone());
    let solver = Solver::new(Arc::new(steps), store, SolverOptions::default());
    let job = solver.job(JobId::new("job"), Arc::new(progress::NullSink), Arc::new(()));
    let result = job.build(Edge::new(vertex.clone(), 0)).await.unwrap();
    (result, runs.load(Ordering::Relaxed))
}

#[tokio::test]
async fn results_are_found_again_also_after_a_restart() {
    let world = World::new().await;
    let base = vertex("base", step("/a"), &[]);
    let top = vertex("top", step("/b"), &[&base]);
    let (result, runs) = build(&world, &top).await;
    assert_eq!(runs, 2);
    let keys = result.keys();
    drop(result);
    for _ in 0..2 {
        let (result, runs) = build(&world, &top).await;
        assert_eq!((result.keys(), runs), (keys.clone(), 0));
    }
    let world = world.reopen().await;
    let (result, runs) = build(&world, &top).await;
    assert_eq!((result.keys(), runs), (keys, 0));
    assert_eq!(world.files(&result).await, files(&[("/a", "x"), ("/b", "x")]));
}

#[tokio::test]
async fn to_look_at_a_result_is_not_to_use_it() {
    let world = World::new().await;
    let top = vertex("top", step("/b"), &[&vertex("base", step("/a"), &[])]);
    let steps = Steps { refs: world.refs.clone(), runs: Arc::default() };
    let store = Arc::new(world.index.clone());
    let solver = Solver::new(Arc::new(steps), store, SolverOptions::default());
    let job = solver.job(JobId::new("job"), Arc::new(progress::NullSink), Arc::new(()));
    let edge = Edge::new(top, 0);
    let result = job.build(edge.clone()).await.unwrap();
    let uses = || world.refs.usage().iter().map(|record| record.use_count).sum::<u64>();
    let before = uses();
    let records = job.records(&edge);
    let seen: Vec<_> = records.iter().filter_map(|one| world.index.peek(one.key)).collect();
    assert_eq!(seen.iter().map(ImmutableRef::height).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((seen[1].keys(), uses()), (result.keys(), before));
}

#[tokio::test]
async fn equal_content_is_recognised_after_a_restart() {
    let world = World::new().await;
    let by_content = Step { file: "/c", content: Some("same") };
    let first = vertex("one", step("/a"), &[]);
    let (result, _) = build(&world, &vertex("copy", by_content.clone(), &[&first])).await;
    let keys = result.keys();
    drop(result);
    let world = world.reopen().await;
    let second = vertex("two", step("/b"), &[]);
    let (result, runs) = build(&world, &vertex("copy", by_content, &[&second])).await;
    assert_eq!((result.keys(), runs), (keys, 1), "only the input was made");
}

#[tokio::test]
async fn a_result_that_lost_a_layer_is_made_again() {
    let world = World::new().await;
    let base = vertex("base", step("/a"), &[]);
    let top = vertex("top", step("/b"), &[&base]);
    let keys = build(&world, &top).await.0.keys();
    let collector = world.collector();
    assert!(collector.remove(keys[1].as_str()).await.unwrap());
    assert_eq!(build(&world, &top).await.1, 1);
    let keys = build(&world, &top).await.0.keys();
    assert!(collector.remove(keys[1].as_str()).await.unwrap());
    assert!(collector.remove(keys[0].as_str()).await.unwrap());
    drop(collector);
    let world = world.reopen().await;
    assert_eq!(build(&world, &top).await.1, 2);
}

#[tokio::test]
async fn merged_and_empty_results_are_results() {
    let world = World::new().await;
    let one = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let two = world.layer(&ImmutableRef::default(), &[("/b", "1")]).await;
    let merged = world.refs.merge(&[two, one]).await.unwrap();
    for (name, result) in [("merged", &merged), ("empty", &ImmutableRef::default())] {
        save(&world.index, name, &[name], result).await;
    }
    drop(merged);
    let world = world.reopen().await;
    let found = ask(&world.index, "merged").await;
    assert_eq!(found, [key("merged")]);
    assert_eq!(ask(&world.index, "empty").await, [key("empty")]);
}

#[tokio::test]
async fn a_directory_of_a_client_is_no_result_to_come_back_to() {
    let world = World::new().await;
    let local = world.trees.take("context", "").await.unwrap().share(false);
    save(&world.index, "local", &["link"], &local).await;
    assert!(ask(&world.index, "link").await.is_empty());
}

#[tokio::test]
async fn links_are_bounded_both_ways_and_the_newest_stay() {
    let world = World::new().await;
    let tree = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    for number in 0..40 {
        save(&world.index, &format!("result {number}"), &["one link"], &tree).await;
    }
    let found = ask(&world.index, "one link").await;
    assert_eq!((found.len(), found[0], found[15]), (16, key("result 39"), key("result 24")));
    for number in 0..400 {
        save(&world.index, "one result", &[&format!("link {number}")], &tree).await;
    }
    assert!(ask(&world.index, "link 0").await.is_empty());
    assert_eq!(ask(&world.index, "link 399").await, [key("one result")]);
    let world = world.reopen().await;
    assert_eq!(ask(&world.index, "one link").await, found);
    assert!(ask(&world.index, "link 0").await.is_empty());
    assert_eq!(ask(&world.index, "link 399").await, [key("one result")]);
}

#[tokio::test]
async fn links_go_with_the_layer_they_lead_to() {
    let world = World::new().await;
    let gone = world.layer(&ImmutableRef::default(), &[("/a", "1")]).await;
    let stays = world.layer(&ImmutableRef::default(), &[("/b", "1")]).await;
    save(&world.index, "gone", &["shared", "own"], &gone).await;
    save(&world.index, "stays", &["shared"], &stays).await;
    let id = gone.keys()[0].to_string();
    drop(gone);
    assert!(world.collector().remove(&id).await.unwrap());
    for world in [world.reopen().await] {
        assert_eq!(ask(&world.index, "shared").await, [key("stays")]);
        assert!(ask(&world.index, "own").await.is_empty());
    }
}

fn key(name: &str) -> KeyId {
    KeyId::from_digest(Digest::of(name))
}

fn link(name: &str) -> LinkKey {
    LinkKey::from_digest(Digest::of(name))
}

async fn save(index: &CacheIndex, name: &str, links: &[&str], result: &ImmutableRef) {
    let links = links.iter().map(|name| link(name)).collect();
    index.save(NewRecord { key: key(name), links }, result).await.unwrap();
}

async fn ask(index: &CacheIndex, name: &str) -> Vec<KeyId> {
    index.query(&[link(name)]).await.unwrap().remove(0)
}
