//! The documents and text queries of `engramdb bench queries`, answered by tantivy in this process: no
//! protocol, no other process, no log. Each query counts all matches and fetches the ten best documents, as
//! FT.SEARCH does.
//!
//! `cargo run --release --locked -- --documents 200000`

use clap::Parser;
use engramdb_datasets::SplitMix64;
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, FuzzyTermQuery, Occur, PhraseQuery, Query, RegexQuery, TermQuery};
use tantivy::schema::{
    FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TEXT, TantivyDocument,
};
use tantivy::{Index, Searcher, Term};

use kinds::{Items, RequestKind};

#[allow(dead_code, reason = "the benchmark tool uses the rest")]
#[path = "../../modules/bench/queries/documents.rs"]
mod documents;
#[allow(dead_code, reason = "the benchmark tool uses the rest")]
#[path = "../../modules/bench/queries/kinds.rs"]
mod kinds;

/// The stream of random numbers of requests; the benchmark tool has the same.
const REQUESTS: u64 = 31;
const TEXT_KINDS: [RequestKind; 6] = [
    RequestKind::Word,
    RequestKind::Words,
    RequestKind::AnyWord,
    RequestKind::Phrase,
    RequestKind::Prefix,
    RequestKind::Fuzzy,
];
/// Memory of an indexing thread, in bytes.
const WRITER_BYTES: usize = 100 << 20;

#[derive(Parser)]
struct Arguments {
    /// Documents to index
    #[arg(long, default_value_t = 1_000_000)]
    documents: u64,
    /// Seconds for each kind of queries and number of threads
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seed of documents and queries
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy)]
struct Fields {
    key: Field,
    title: Field,
    category: Field,
    city: Field,
    price: Field,
    stock: Field,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (index, fields) = empty_index();
    for threads in [1, 2] {
        let (index, fields) = if threads == 1 { (index.clone(), fields) } else { empty_index() };
        let began = Instant::now();
        fill(&index, fields, &arguments, threads)?;
        let seconds = began.elapsed().as_secs_f64();
        println!("indexing, {threads} threads: {:.0} documents/s", arguments.documents as f64 / seconds);
    }
    let searcher = index.reader()?.searcher();
    let bytes = searcher.space_usage()?.total().get_bytes();
    println!(
        "{:.0} bytes a document, in {} segments, compressed texts of documents included",
        bytes as f64 / arguments.documents as f64,
        searcher.segment_readers().len()
    );
    println!("{:10} {:>13} {:>13} {:>8}", "query", "1 thread, /s", "2 threads, /s", "CPU us");
    let items = Items {
        seed: arguments.seed,
        documents: arguments.documents,
        form: documents::ItemForm::Hash,
        dimension: 0,
    };
    for kind in TEXT_KINDS {
        let rate = |threads| rate(&searcher, fields, (kind, items), threads, arguments.seconds);
        let ([one, cpu_us], [two, _]) = (rate(1)?, rate(2)?);
        println!("{:10} {one:>13.0} {two:>13.0} {cpu_us:>8.0}", kind.name());
    }
    Ok(())
}

fn empty_index() -> (Index, Fields) {
    let mut schema = Schema::builder();
    let fields = Fields {
        key: schema.add_text_field("key", STORED),
        title: schema.add_text_field("title", TEXT | STORED),
        category: schema.add_text_field("category", STRING | STORED),
        city: schema.add_text_field("city", STRING | FAST | STORED),
        price: schema.add_u64_field("price", INDEXED | FAST | STORED),
        stock: schema.add_u64_field("stock", INDEXED | STORED),
    };
    (Index::create_in_ram(schema.build()), fields)
}

/// Indexes the documents, until they are committed and merges have ended.
fn fill(index: &Index, fields: Fields, arguments: &Arguments, threads: usize) -> tantivy::Result<()> {
    let mut writer = index.writer_with_num_threads(threads, threads * WRITER_BYTES)?;
    for number in 0..arguments.documents {
        let item = documents::Item::new(arguments.seed, number, 0);
        let mut document = TantivyDocument::default();
        document.add_text(fields.key, documents::key(number));
        document.add_text(fields.title, item.title);
        document.add_text(fields.category, item.category);
        document.add_text(fields.city, item.city);
        document.add_u64(fields.price, item.price);
        document.add_u64(fields.stock, item.stock);
        writer.add_document(document)?;
    }
    writer.commit()?;
    writer.wait_merging_threads()
}

/// The CPU time of this process, in seconds.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    let ticks: f64 = fields.map(|ticks| ticks.parse().unwrap_or(0.0)).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// Queries per second of all threads together, and the CPU time of each in microseconds.
fn rate(
    searcher: &Searcher,
    fields: Fields,
    (kind, items): (RequestKind, Items),
    threads: u64,
    seconds: f64,
) -> Result<[f64; 2], Box<dyn Error>> {
    let length = Duration::from_secs_f64(seconds);
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let part = |thread: u64| {
        let mut random = SplitMix64::new(items.seed, REQUESTS, thread);
        let mut count = 0_u64;
        while began.elapsed() < length {
            let words = kind.draw(&mut random, items);
            let text = String::from_utf8_lossy(&words[2]).into_owned();
            answer(searcher, fields, &*query(fields.title, kind, &text)).expect("a valid query");
            count += 1;
        }
        count
    };
    let count: u64 = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        started.into_iter().map(|part| part.join().expect("no panic")).sum()
    });
    let count = count as f64;
    Ok([count / began.elapsed().as_secs_f64(), (cpu_seconds()? - cpu) * 1e6 / count])
}

/// The query of FT.SEARCH as one of tantivy's.
fn query(title: Field, kind: RequestKind, text: &str) -> Box<dyn Query> {
    let term = |word: &str| Term::from_field_text(title, word);
    let word =
        |word: &str| -> Box<dyn Query> { Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs)) };
    let of = |occur: Occur, words: &mut dyn Iterator<Item = &str>| -> Box<dyn Query> {
        Box::new(BooleanQuery::new(words.map(|one| (occur, word(one))).collect()))
    };
    match kind {
        RequestKind::Words => of(Occur::Must, &mut text.split(' ')),
        RequestKind::AnyWord => of(Occur::Should, &mut text.split('|')),
        RequestKind::Phrase => {
            Box::new(PhraseQuery::new(text.trim_matches('"').split(' ').map(term).collect()))
        }
        RequestKind::Prefix => {
            let pattern = text.replace('*', ".*");
            Box::new(RegexQuery::from_pattern(&pattern, title).expect("letters"))
        }
        RequestKind::Fuzzy => Box::new(FuzzyTermQuery::new(term(text.trim_matches('%')), 1, false)),
        _ => word(text),
    }
}

fn answer(searcher: &Searcher, fields: Fields, query: &dyn Query) -> tantivy::Result<usize> {
    const BEST: usize = 10;
    let (count, best) = searcher.search(query, &(Count, TopDocs::with_limit(BEST).order_by_score()))?;
    for (_, address) in best {
        let document: TantivyDocument = searcher.doc(address)?;
        std::hint::black_box(document.get_first(fields.key));
    }
    Ok(count)
}
