//! FT.INFO's reply, and the module's section of INFO. The fields have RediSearch's order, because clients
//! read them by position.

use crate::audit::Auditor;
use crate::error::ErrorStyle;
use crate::index::{FailureCount, Index};
use crate::schema::{
    Algorithm, FieldDefinition, FieldKind, NO_SEPARATOR, element_name, metric_name, quantization_name,
};
use crate::vectors::live::{LiveReport, MissCause, Warning};
use engramdb_engine::command::Reply;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An element of the reply. The reply is built first, so that parts can be counted before they are written.
enum Part {
    Text(Vec<u8>),
    Integer(i64),
    Number(f64),
    List(Vec<Part>),
    Map(Vec<(&'static str, Part)>),
}

impl Part {
    fn text(text: impl AsRef<[u8]>) -> Part {
        Part::Text(text.as_ref().to_vec())
    }

    fn write(&self, reply: &mut dyn Reply) {
        match self {
            Part::Text(text) => reply.bulk(text),
            Part::Integer(integer) => reply.integer(*integer),
            Part::Number(number) => reply.double(*number),
            Part::List(parts) => {
                reply.array(parts.len());
                parts.iter().for_each(|part| part.write(reply));
            }
            Part::Map(pairs) => {
                reply.map(pairs.len());
                for (name, part) in pairs {
                    reply.bulk(name.as_bytes());
                    part.write(reply);
                }
            }
        }
    }
}

/// Writes FT.INFO's reply.
pub fn write(index: &Index, now: Duration, style: ErrorStyle, counts: &CursorCounts, reply: &mut dyn Reply) {
    let mut parts = head(index, reply.is_resp3());
    parts.extend(statistics(index));
    parts.extend(tail(index, style, counts));
    parts.push(("live_recall", Part::List(live_recall(index, now))));
    Part::Map(parts).write(reply);
}

fn head(index: &Index, is_resp3: bool) -> Vec<(&'static str, Part)> {
    let definition = &index.definition;
    let options = &definition.options;
    let flags = [
        (options.no_frequencies, "NOFREQS"),
        (options.no_fields, "NOFIELDS"),
        (options.no_offsets, "NOOFFSETS"),
        // Highlighting needs offsets.
        (options.no_highlight || options.no_offsets, "NOHL"),
        (options.max_text_fields, "MAXTEXTFIELDS"),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, name)| Part::text(name)).collect();
    let prefixes = definition.prefixes.iter().map(Part::text).collect();
    let mut rule =
        vec![("key_type", Part::text(definition.documents.name())), ("prefixes", Part::List(prefixes))];
    if let Some(filter) = &options.filter {
        rule.push(("filter", Part::text(&filter.text)));
    }
    // As in RediSearch, the default language is not shown.
    let is_default = options.language.eq_ignore_ascii_case(b"english");
    let language = if is_default { &Vec::new() } else { &options.language };
    for (name, value) in [
        ("default_language", language),
        ("language_field", &options.language_field),
        ("score_field", &options.score_field),
        ("payload_field", &options.payload_field),
    ] {
        if !value.is_empty() {
            rule.push((name, Part::text(value)));
        }
    }
    let place = rule.iter().position(|(name, _)| *name == "score_field").unwrap_or(rule.len());
    rule.insert(place, ("default_score", Part::Number(options.score)));
    rule.push(("indexes_all", Part::text(if options.index_all { "true" } else { "false" })));
    vec![
        ("index_name", Part::text(&definition.name)),
        ("index_options", Part::List(flags)),
        ("index_definition", Part::Map(rule)),
        (
            "attributes",
            Part::List(definition.fields.iter().map(|field| attribute(field, is_resp3)).collect()),
        ),
    ]
}

/// One field: pairs and flags in one list in RESP2, a map with a list of flags in RESP3.
fn attribute(field: &FieldDefinition, is_resp3: bool) -> Part {
    let mut pairs = vec![
        ("identifier", Part::text(&*field.identifier)),
        ("attribute", Part::text(&field.name)),
        ("type", Part::text(field.kind.type_name())),
    ];
    let (mut keeps_words, mut keeps_case, mut has_trie) = (false, false, false);
    match &field.kind {
        FieldKind::Text { weight, no_stem, suffix_trie, .. } => {
            pairs.push(("WEIGHT", Part::Number(*weight)));
            (keeps_words, has_trie) = (*no_stem, *suffix_trie);
        }
        FieldKind::Tag { separator, case_sensitive, suffix_trie } => {
            let separator = Some(*separator).filter(|&separator| separator != NO_SEPARATOR);
            pairs.push(("SEPARATOR", Part::text(separator.as_slice())));
            (keeps_case, has_trie) = (*case_sensitive, *suffix_trie);
        }
        FieldKind::Vector(vector) => {
            pairs.push(("algorithm", Part::text(vector.algorithm.name())));
            pairs.push(("data_type", Part::text(element_name(vector.element))));
            pairs.push(("dim", Part::Integer(i64::from(vector.dimension))));
            pairs.push(("distance_metric", Part::text(metric_name(vector.metric))));
            let quantization = Part::text(quantization_name(vector.quantization));
            let integer = |number: u32| Part::Integer(i64::from(number));
            match vector.algorithm {
                Algorithm::Flat => {}
                Algorithm::Hnsw => pairs.extend([
                    ("M", integer(vector.m)),
                    ("ef_construction", integer(vector.ef_construction)),
                    ("ef_runtime", integer(vector.ef_runtime)),
                    ("quantization", quantization),
                ]),
                Algorithm::Svs => pairs.extend([
                    ("graph_max_degree", integer(2 * vector.m)),
                    ("construction_window_size", integer(vector.ef_construction)),
                    ("search_window_size", integer(vector.ef_runtime)),
                    ("compression", quantization),
                ]),
            }
        }
        FieldKind::GeoShape(coordinates) => pairs.push(("coord_system", Part::text(coordinates.name()))),
        FieldKind::Numeric | FieldKind::Geo => {}
    }
    let flags = [
        (keeps_case, "CASESENSITIVE"),
        (field.sortable, "SORTABLE"),
        (field.sortable && field.unf, "UNF"),
        (keeps_words, "NOSTEM"),
        (field.no_index, "NOINDEX"),
        (has_trie, "WITHSUFFIXTRIE"),
        (field.index_empty, "INDEXEMPTY"),
        (field.index_missing, "INDEXMISSING"),
    ];
    let flags: Vec<Part> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| Part::text(name)).collect();
    if is_resp3 {
        pairs.push(("flags", Part::List(flags)));
        return Part::Map(pairs);
    }
    let flat = pairs.into_iter().flat_map(|(name, part)| [Part::text(name), part]);
    Part::List(flat.chain(flags).collect())
}

fn statistics(index: &Index) -> Vec<(&'static str, Part)> {
    const MEGABYTE: f64 = (1 << 20) as f64;
    let counts = index.documents.read().counts();
    let vectors = index.vectors.iter().flatten().map(|vectors| vectors.facts().live).sum::<usize>();
    let records = counts.records + vectors;
    let vector_bytes = index.vector_bytes();
    let megabytes = |bytes: usize| Part::Number(bytes as f64 / MEGABYTE);
    let average = |sum: usize, count: usize| Part::Number(sum as f64 / count.max(1) as f64);
    let zero = || Part::Number(0.0);
    let integer = |number: usize| Part::Integer(number as i64);
    vec![
        ("num_docs", integer(counts.documents)),
        ("max_doc_id", integer(counts.id_bound as usize)),
        ("num_terms", integer(counts.words)),
        ("num_records", integer(records)),
        ("inverted_sz_mb", megabytes(counts.posting_bytes)),
        ("vector_index_sz_mb", megabytes(vector_bytes)),
        // A term has one set of documents, which is not divided into blocks.
        ("total_inverted_index_blocks", integer(counts.terms)),
        // These are parts of the table of documents.
        ("offset_vectors_sz_mb", zero()),
        ("doc_table_size_mb", megabytes(counts.table_bytes - counts.key_bytes)),
        ("sortable_values_size_mb", zero()),
        ("key_table_size_mb", megabytes(counts.key_bytes)),
        ("tag_overhead_sz_mb", megabytes(counts.tag_bytes)),
        ("text_overhead_sz_mb", megabytes(counts.text_bytes)),
        ("total_index_memory_sz_mb", megabytes(counts.posting_bytes + vector_bytes + counts.table_bytes)),
        ("geoshapes_sz_mb", megabytes(counts.shape_bytes)),
        ("records_per_doc_avg", average(records, counts.documents)),
        ("bytes_per_record_avg", average(counts.posting_bytes, counts.records)),
        ("offsets_per_term_avg", zero()),
        ("offset_bits_per_record_avg", zero()),
        ("hash_indexing_failures", Part::Integer(index.failures.lock().all.count as i64)),
        ("total_indexing_time", Part::Number(index.indexing_time().as_secs_f64() * 1000.0)),
        ("indexing", Part::Integer(i64::from(index.is_backfilling()))),
        ("percent_indexed", Part::Number(index.progress())),
        ("number_of_uses", Part::Integer(index.uses.load(Ordering::Relaxed) as i64)),
        ("number_of_admin_ops", Part::Integer(0)),
        ("cleaning", Part::Integer(0)),
    ]
}

/// The numbers of cursors: of all indexes, of this one, and the most that it may have.
pub struct CursorCounts {
    pub all: usize,
    pub own: usize,
    pub own_max: usize,
}

fn cursors(counts: &CursorCounts) -> Part {
    let integer = |number: usize| Part::Integer(number.min(i64::MAX as usize) as i64);
    // A cursor that is being read is not counted.
    Part::Map(vec![
        ("global_idle", integer(counts.all)),
        ("global_total", integer(counts.all)),
        ("index_capacity", integer(counts.own_max)),
        ("index_total", integer(counts.own)),
    ])
}

/// Which dialects searches have used.
fn dialects(index: &Index) -> Part {
    let used = index.dialects.load(Ordering::Relaxed);
    let names = ["dialect_1", "dialect_2", "dialect_3", "dialect_4"];
    let flag = |(bit, name)| (name, Part::Integer((used >> bit & 1) as i64));
    Part::Map(names.into_iter().enumerate().map(flag).collect())
}

fn tail(index: &Index, style: ErrorStyle, counts: &CursorCounts) -> Vec<(&'static str, Part)> {
    let zeros =
        |names: &[&'static str]| Part::Map(names.iter().map(|&name| (name, Part::Number(0.0))).collect());
    let failures = index.failures.lock().clone();
    let or_none = |text: &[u8]| if text.is_empty() { Part::text("N/A") } else { Part::text(text) };
    let last_error = |failures: &FailureCount| {
        failures.last_error.as_ref().map_or(String::new(), |error| error.in_style(style).to_string())
    };
    let errors = |failures: &FailureCount| {
        vec![
            ("indexing failures", Part::Integer(failures.count as i64)),
            ("last indexing error", or_none(last_error(failures).as_bytes())),
            ("last indexing error key", or_none(&failures.last_key)),
            // A backfill never stops for lack of memory, as RediSearch's may.
            ("background indexing status", Part::text("OK")),
        ]
    };
    let mut parts = vec![
        (
            "gc_stats",
            zeros(&[
                "bytes_collected",
                "total_ms_run",
                "total_cycles",
                "average_cycle_time_ms",
                "last_run_time_ms",
                "gc_numeric_trees_missed",
                "gc_blocks_denied",
            ]),
        ),
        ("cursor_stats", cursors(counts)),
        ("dialect_stats", dialects(index)),
    ];
    if let Some(words) = &index.definition.options.stop_words {
        parts.push(("stopwords_list", Part::List(words.iter().map(Part::text).collect())));
    }
    parts.push(("Index Errors", Part::Map(errors(&failures.all))));
    let fields = index.definition.fields.iter().zip(&failures.by_field).map(|(field, failures)| {
        Part::Map(vec![
            ("identifier", Part::text(&*field.identifier)),
            ("attribute", Part::text(&field.name)),
            ("Index Errors", Part::Map(errors(failures))),
        ])
    });
    parts.push(("field statistics", Part::List(fields.collect())));
    // RediSearch does not have this field (mutations that searches still scan), so it is after all fields
    // that clients read by position.
    parts.push(("pending_mutations", Part::Integer(index.pending() as i64)));
    parts
}

/// The measured recall of each graph.
fn live_recall(index: &Index, now: Duration) -> Vec<Part> {
    let of_field = |(name, report): (&[u8], LiveReport)| {
        let LiveReport { tally, dropped, stale, warning, repairs } = report;
        let integer = |number: u64| Part::Integer(number as i64);
        let missed = MissCause::ALL.map(|cause| (cause.name(), integer(tally.missed[cause as usize])));
        Part::Map(vec![
            ("attribute", Part::text(name)),
            ("recall", tally.recall().map_or_else(|| Part::text("N/A"), Part::Number)),
            ("samples", integer(tally.samples)),
            ("rows_wanted", integer(tally.wanted)),
            ("rows_missed", Part::Map(missed.into())),
            ("samples_dropped", integer(dropped)),
            ("samples_stale", integer(stale)),
            ("samples_codes_too_coarse", integer(tally.coarse)),
            ("warning", Part::text(warning.map_or("none", Warning::name))),
            ("repairs", integer(repairs)),
        ])
    };
    live_reports(index, now).map(of_field).collect()
}

/// The reports of the fields with a graph, with the fields' names.
fn live_reports(index: &Index, now: Duration) -> impl Iterator<Item = (&[u8], LiveReport)> {
    let fields = index.definition.fields.iter().zip(&index.vectors);
    fields.filter_map(move |(field, vectors)| {
        let vectors = vectors.as_ref().filter(|vectors| vectors.options().algorithm != Algorithm::Flat)?;
        Some((&*field.name, vectors.live.report(now)))
    })
}

/// The module's section of INFO.
pub fn section<'a>(
    all: impl Iterator<Item = (u32, &'a Index)>,
    memory_bytes: usize,
    auditor: &Auditor,
    now: Duration,
) -> Vec<(&'static str, Vec<(String, String)>)> {
    let (mut indexes, mut documents, mut failures, mut pending) = (0, 0, 0, 0);
    let mut active = false;
    let (mut warnings, mut lines_of_fields) = (0, Vec::new());
    for (database, index) in all {
        indexes += 1;
        documents += index.documents.read().len();
        failures += index.failures.lock().all.count;
        pending += index.pending();
        active |= index.is_backfilling() || index.pending() > 0;
        for (field, report) in live_reports(index, now) {
            warnings += usize::from(report.warning.is_some());
            lines_of_fields.extend(live_line(database, &index.definition.name, field, &report));
        }
    }
    let status = if active { "IN_PROGRESS" } else { "NO_ACTIVITY" };
    let lines: [(&str, String); 8] = [
        ("search_number_of_indexes", indexes.to_string()),
        ("search_number_of_docs", documents.to_string()),
        ("search_background_indexing_status", status.to_owned()),
        ("search_pending_mutations", pending.to_string()),
        ("search_hash_indexing_failures", failures.to_string()),
        ("search_used_memory_indexes", memory_bytes.to_string()),
        ("search_live_recall_warnings", warnings.to_string()),
        ("search_live_recall_cpu_ms", auditor.spent_ms().to_string()),
    ];
    let mut lines: Vec<_> = lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let of_fields = lines_of_fields.into_iter().enumerate();
    lines.extend(of_fields.map(|(number, line)| (format!("search_live_recall_{number}"), line)));
    vec![("search", lines)]
}

/// The line of a field; `None` if its recall is not known yet.
fn live_line(database: u32, index: &[u8], field: &[u8], report: &LiveReport) -> Option<String> {
    let LiveReport { tally, dropped, stale, warning, repairs } = report;
    let recall = tally.recall()?;
    let [index, field] = [index, field].map(plain);
    let warning = warning.map_or("none", Warning::name);
    Some(format!(
        "db={database},index={index},field={field},recall={recall:.4},samples={},dropped={dropped},stale={stale},coarse={},warning={warning},repairs={repairs}",
        tally.samples, tally.coarse
    ))
}

/// A name whose control characters and commas, which would end the line or the name, are replaced by `_`.
fn plain(name: &[u8]) -> String {
    let is_plain = |character: &char| !character.is_control() && *character != ',';
    String::from_utf8_lossy(name)
        .chars()
        .map(|character| if is_plain(&character) { character } else { '_' })
        .collect()
}
