//! A warm search allocates its result and nothing else.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::RangeInclusive;

use engramdb_vector::{
    Element, Filter, Flat, Hnsw, HnswParameters, Metric, Quantization, SearchRequest, VectorIndex, bytes_of,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: all arguments are passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's guarantees are those that the callee requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are those that the callee requires.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Evens(u32);

impl Filter for Evens {
    fn allows(&self, id: u32) -> bool {
        id.is_multiple_of(2)
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.0.div_ceil(2) as usize)
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        let from = ids.start().next_multiple_of(2);
        (from..self.0).step_by(2).take_while(|id| id <= ids.end()).for_each(visit);
    }
}

#[test]
fn a_warm_search_allocates_only_its_result() {
    const COUNT: u32 = 3_000;
    let vector = |id: u32| -> Vec<f32> { (1..=16).map(|x| ((id * x) % 4_001) as f32 - 2_000.0).collect() };
    let parameters = HnswParameters::new(16, Metric::Cosine);
    let indexes: [Box<dyn VectorIndex>; 3] = [
        Box::new(Hnsw::new(parameters)),
        Box::new(Hnsw::new(HnswParameters { quantization: Quantization::Bits4, ..parameters })),
        Box::new(Flat::new(Element::F32, 16, Metric::Cosine)),
    ];
    let filter = Evens(COUNT);
    for index in indexes {
        (0..COUNT).for_each(|id| index.insert(id, bytes_of(&vector(id))).expect("fits"));
        // Walks that are plain, filtered (few and many ids allowed), and over deleted nodes.
        index.remove(1);
        let search = |query: &[f32], ef, filter| {
            let request = SearchRequest { filter, ..SearchRequest::new(bytes_of(query), 10, ef) };
            assert_eq!(index.search(&request).expect("fits").neighbors.len(), 10);
        };
        for (ef, filter) in
            [(20, None), (200, None), (20, Some(&filter as &dyn Filter)), (200, Some(&filter))]
        {
            let queries: Vec<Vec<f32>> = (0..50).map(|id| vector(id + 7_000)).collect();
            queries.iter().for_each(|query| search(query, ef, filter));
            let before = ALLOCATIONS.get();
            queries.iter().for_each(|query| search(query, ef, filter));
            assert_eq!(ALLOCATIONS.get() - before, queries.len(), "ef {ef}");
        }
    }
}
