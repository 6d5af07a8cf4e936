//! What is found in the cache, and at what cost.

use crate::scenarios::toys::{Bench, toy};
use crate::testing::Counts;
use crate::{Edge, SolverOptions};

#[tokio::test]
async fn a_cached_graph_loads_only_what_was_asked_for() {
    let bench = Bench::new();
    let chain = || {
        let (a, a_toy) = toy("a", &[]).make();
        let (b, b_toy) = toy("b", &[a]).make();
        let (c, c_toy) = toy("c", &[b]).by_content(0).make();
        (c, [a_toy, b_toy, c_toy])
    };
    let (edge, toys) = chain();
    assert_eq!(bench.build(&edge).await.unwrap(), "c(b(a()))");
    assert!(toys.iter().all(|toy| toy.ran() == 1));
    bench.store.take_counts();

    let (edge, toys) = chain();
    assert_eq!(bench.build(&edge).await.unwrap(), "c(b(a()))");
    assert!(toys.iter().all(|toy| toy.ran() == 0));
    assert_eq!(toys[2].contents.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(bench.store.take_counts(), Counts { queries: 2, loads: 1, saves: 0, links: 0 });
}

#[tokio::test]
async fn another_way_to_the_same_content_is_a_hit_and_the_next_time_a_fast_one() {
    let bench = Bench::new();
    let (one, two) = (toy("one", &[]).gives(&["same"]), toy("two", &[]).gives(&["same"]));
    let top = |input: Edge| toy("top", &[input]).by_content(0).make();
    bench.build(&top(one.edge()).0).await.unwrap();

    let (edge, top_toy) = top(two.edge());
    let expected = bench.build(&edge).await.unwrap();
    assert_eq!((expected.as_str(), top_toy.ran()), ("top(same)", 0));
    assert_eq!(bench.store.take_counts().links, 1);

    let (two, two_toy) = toy("two", &[]).gives(&["same"]).make();
    let (edge, top_toy) = top(two);
    assert_eq!(bench.build(&edge).await.unwrap(), expected);
    assert_eq!((top_toy.ran(), two_toy.ran()), (0, 0));
    assert_eq!(top_toy.contents.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(bench.store.take_counts().loads, 1);
}

#[tokio::test]
async fn a_match_below_is_enough_for_a_match_above_without_loading_in_between() {
    let bench = Bench::new();
    let graph = |source: &str| {
        let source = toy(source, &[]).gives(&["same"]).edge();
        let (middle, middle_toy) = toy("middle", &[source]).by_content(0).make();
        let (top, top_toy) = toy("top", &[middle]).make();
        (top, middle_toy, top_toy)
    };
    bench.build(&graph("one").0).await.unwrap();
    bench.store.take_counts();
    let (edge, middle, top) = graph("two");
    assert_eq!(bench.build(&edge).await.unwrap(), "top(middle(same))");
    assert_eq!((middle.ran(), top.ran()), (0, 0));
    // The source was tried, and the top was loaded; the middle was not.
    assert_eq!(bench.store.take_counts().loads, 2);
}

#[tokio::test]
async fn content_is_not_compared_where_no_other_slot_could_match() {
    let bench = Bench::new();
    let slow = toy("slow", &[]).edge();
    let new = toy("new", &[]).edge();
    let (edge, toy) = toy("top", &[slow, new]).by_content(0).make();
    bench.build(&edge).await.unwrap();
    assert_eq!(toy.ran(), 1);
    // Once for the links of the record, none for lookups: the second slot leads nowhere.
    assert_eq!(toy.contents.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_slot_with_links_is_left_alone_while_another_has_none() {
    let bench = Bench::new();
    let graph = |files: &str, text: &str| {
        let (base, base_toy) = toy("base", &[]).make();
        let (files, _) = toy(files, &[]).gives(&[text]).make();
        let (top, _) = toy("copy", &[base, files]).by_content(0).by_content(1).make();
        (top, base_toy)
    };
    bench.build(&graph("files-1", "same").0).await.unwrap();
    bench.store.forget_results();
    bench.store.take_counts();
    // Only the files are new: their content finds the record, but that has no result any more.
    let (edge, base) = graph("files-2", "same");
    assert_eq!(bench.build(&edge).await.unwrap(), "copy(base(),same)");
    assert_eq!(base.ran(), 1);
    let (edge, base) = graph("files-3", "same");
    assert_eq!(bench.build(&edge).await.unwrap(), "copy(base(),same)");
    assert_eq!(base.ran(), 0, "found by the content of the files and the definition of the base");
}

#[tokio::test]
async fn a_result_that_is_gone_is_made_again() {
    let bench = Bench::new();
    let graph = || toy("b", &[toy("a", &[]).edge()]).make();
    bench.build(&graph().0).await.unwrap();
    bench.store.forget_results();
    let (edge, b) = graph();
    assert_eq!(bench.build(&edge).await.unwrap(), "b(a())");
    assert_eq!(b.ran(), 1);
    let (edge, b) = graph();
    bench.build(&edge).await.unwrap();
    assert_eq!(b.ran(), 0);
}

#[tokio::test]
async fn a_store_that_fails_costs_the_work_and_not_the_build() {
    let bench = Bench::new();
    let graph = || toy("b", &[toy("a", &[]).edge()]).make();
    bench.build(&graph().0).await.unwrap();
    bench.store.set_failing(true);
    let (edge, b) = graph();
    assert_eq!(bench.build(&edge).await.unwrap(), "b(a())");
    assert_eq!(b.ran(), 1);
}

#[tokio::test]
async fn another_selector_is_another_key_but_the_same_content_is_found() {
    let bench = Bench::new();
    let graph = |selector: &str, by_content: bool| {
        let tree = toy("tree", &[]).edge();
        let copy = toy("copy", &[tree]).selects(0, selector);
        if by_content { copy.by_content(0).make() } else { copy.make() }
    };
    bench.build(&graph("/a", false).0).await.unwrap();
    let (edge, copy) = graph("/b", false);
    bench.build(&edge).await.unwrap();
    assert_eq!(copy.ran(), 1);
    let (edge, copy) = graph("/a", false);
    bench.build(&edge).await.unwrap();
    assert_eq!(copy.ran(), 0);

    let bench = Bench::new();
    bench.build(&graph("/a", true).0).await.unwrap();
    let (edge, copy) = graph("/b", true);
    bench.build(&edge).await.unwrap();
    assert_eq!(copy.ran(), 0);
}

#[tokio::test]
async fn an_ignored_cache_is_not_read_but_written() {
    let bench = Bench::new();
    let graph = |ignore: bool, text: &str| {
        let base = toy("base", &[]).gives(&[text]);
        let base = if ignore { base.ignoring_cache() } else { base };
        let (base, base_toy) = base.key("base").make();
        let (child, child_toy) = toy("child", &[base]).make();
        let (copy, copy_toy) = toy("copy", &[child]).by_content(0).make();
        (copy, [base_toy, child_toy, copy_toy])
    };
    bench.build(&graph(false, "old").0).await.unwrap();
    let (edge, toys) = graph(true, "new");
    assert_eq!(bench.build(&edge).await.unwrap(), "copy(child(new))");
    assert!(toys.iter().all(|toy| toy.ran() == 1), "what stands on a new result is new");
    let (edge, toys) = graph(true, "new");
    bench.build(&edge).await.unwrap();
    assert_eq!(toys.map(|toy| toy.ran()), [1, 1, 0], "but the same content is the same");
    let (edge, toys) = graph(false, "unused");
    assert_eq!(bench.build(&edge).await.unwrap(), "copy(child(new))");
    assert!(toys.iter().all(|toy| toy.ran() == 0));
}

#[tokio::test]
async fn volatile_results_are_not_kept() {
    let bench = Bench::new();
    for _ in 0..2 {
        let (edge, toy) = toy("v", &[]).volatile().make();
        bench.build(&edge).await.unwrap();
        assert_eq!(toy.ran(), 1);
    }
    assert_eq!(bench.store.take_counts().saves, 0);
}

#[tokio::test]
async fn records_tell_the_keys_by_which_a_result_is_found_again() {
    let bench = Bench::new();
    let a = toy("a", &[]).edge();
    let edge = toy("b", &[a.clone(), a]).by_content(1).edge();
    let (job, _feed) = bench.job("job");
    assert!(job.records(&edge).is_empty());
    job.build(edge.clone()).await.unwrap();
    let records = job.records(&edge);
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0].inputs, &records[1].inputs), (&vec![], &vec![0, 0]));
    assert_eq!(records[1].result.as_deref(), Some("b(a(),a())"));
    assert_eq!(records[0].map.pin.as_deref(), Some("pin of a"));
    assert_eq!(records[1].links.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    assert!(bench.store.forget(records[1].key), "the key is the one in the store");
}

#[tokio::test]
async fn a_deep_chain_is_solved_and_found_again() {
    let chain = || {
        (0..2000).fold(toy("0", &[]).gives(&["x"]).edge(), |edge, number| {
            toy("step", &[edge]).key(&number.to_string()).gives(&["x"]).edge()
        })
    };
    let bench = Bench::new();
    assert_eq!(bench.build(&chain()).await.unwrap(), "x");
    bench.store.take_counts();
    assert_eq!(bench.build(&chain()).await.unwrap(), "x");
    assert_eq!(bench.store.take_counts(), Counts { queries: 2000, loads: 1, saves: 0, links: 0 });
}

#[tokio::test]
async fn a_lattice_with_a_great_many_paths_is_walked_once() {
    let lattice = || {
        (0..200).fold(toy("0", &[]).gives(&["x"]).edge(), |edge, number| {
            toy("step", &[edge.clone(), edge]).key(&number.to_string()).gives(&["x"]).edge()
        })
    };
    let bench = Bench::with(SolverOptions { max_parallelism: Some(1) });
    assert_eq!(bench.build(&lattice()).await.unwrap(), "x");
    bench.store.take_counts();
    assert_eq!(bench.build(&lattice()).await.unwrap(), "x");
    assert_eq!(bench.store.take_counts(), Counts { queries: 200, loads: 1, saves: 0, links: 0 });
}

#[tokio::test]
async fn every_slot_has_to_match_the_same_record() {
    let bench = Bench::new();
    let graph = |left: &str, right: &str| {
        let inputs = [toy(left, &[]).edge(), toy(right, &[]).edge()];
        toy("top", &inputs).by_content(0).by_content(1).make()
    };
    bench.build(&graph("a", "b").0).await.unwrap();
    bench.build(&graph("c", "d").0).await.unwrap();
    // Each slot alone leads to a record now; together they lead to none.
    for (left, right) in [("a", "d"), ("c", "b"), ("a", "x"), ("x", "b")] {
        let (edge, top) = graph(left, right);
        assert_eq!(bench.build(&edge).await.unwrap(), format!("top({left}(),{right}())"));
        assert_eq!(top.ran(), 1);
    }
}
