//! Codes: vectors quantized to a few bits per component. A graph walk reads codes instead of vectors, because
//! a walk is bound by memory bandwidth and a code of four bits per component is an eighth of a vector of
//! `f32`.
//!
//! A code describes the difference between a vector and the *centre*, which is the mean of the first vectors
//! of the index. Without the subtraction, the component that all vectors have in common would use up the
//! quantization levels. For the cosine distance, vectors are first scaled to length one. The difference is
//! rotated (rotation.rs), which makes its components similar in size; then each component is rounded to the
//! nearest of `2^bits` levels. A query keeps one byte per component.
//!
//! Distances between codes are estimates: they guide a walk and are never returned to a caller. There are no
//! codes before there is a centre. All codes that are read have the same centre. When the data have moved
//! away from it, all codes are recomputed (hnsw/recode.rs), and no search reads codes meanwhile.
//!
//! With `u` the level of a component and `m` the middle of all levels, a code represents `s (u - m)`. The
//! scale s is chosen such that the product of this with the difference itself is exact: this is the estimator
//! of RaBitQ (arXiv 2405.12497, and for several bits 2409.09913). Without it, lengths shrink as the number of
//! bits falls. For vectors x and y and the centre c,
//!
//! ```text
//! L2                      |x - y|^2 = |x - c|^2 + |y - c|^2 - 2 (x - c)(y - c)
//! cosine, |x| = |y| = 1   1 - x y   = |x - c|^2 / 2 + |y - c|^2 / 2 - (x - c)(y - c)
//! inner product           1 - x y   = (1 + c c - c x) - c y - (x - c)(y - c)
//! ```
//!
//! A row consists of the levels, packed in blocks of 128 components, followed by `Terms`:
//! - 8 bits: one byte per component;
//! - 4 bits: 64 bytes per block; byte i holds component i in its low half and component 64 + i in its high
//!   half;
//! - 1 bit: components in order, from the lowest bit of a byte to the highest.

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use crate::kernels::elements::is_plain;
use crate::kernels::{self, CodeKernel, CodeKernels, Width};
use crate::rotation::{BLOCK, Rotated, Rotation};
use crate::slab::{Aligned, Slab};
use crate::{Element, Metric, Quantization};
use parking_lot::Mutex;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

impl Width {
    pub fn of(quantization: Quantization) -> Option<Width> {
        match quantization {
            Quantization::None => None,
            Quantization::Bits8 => Some(Width::Eight),
            Quantization::Bits4 => Some(Width::Four),
            Quantization::Bits1 => Some(Width::One),
        }
    }

    /// The highest level: twice the middle level.
    fn top(self) -> i64 {
        (1 << self.bits()) - 1
    }

    /// The distance between two levels, for components with root mean square `mean` and largest absolute
    /// value `largest`. For four bits it is the step with the least error for a normal distribution (J. Max,
    /// "Quantizing for minimum distortion", 1960, table II).
    fn step(self, mean: f32, largest: f32) -> f32 {
        match self {
            Width::Eight => largest / 127.5,
            Width::Four => 0.3352 * mean,
            Width::One => mean,
        }
    }
}

impl Width {
    /// The root mean square of the components, divided by the distance between levels: the inverse of `step`.
    /// For eight bits, the largest of some hundred components of a normal distribution is three times their
    /// root mean square.
    fn length_of_factor(self) -> f32 {
        match self {
            Width::Eight => 127.5 / 3.2,
            Width::Four => 1.0 / 0.3352,
            // The scale makes the product exact. For signs, that takes 2 sqrt(pi / 2) times the root mean
            // square.
            Width::One => 0.4,
        }
    }
}

pub(crate) struct Codes {
    metric: Metric,
    width: Width,
    rotation: Rotation,
    kernels: CodeKernels,
    /// The centre of the codes that searches read. Null while there are no codes, and while they are
    /// recomputed.
    reading: AtomicPtr<Centre>,
    /// The centre of the codes that are written. Null while there are no codes.
    writing: AtomicPtr<Centre>,
    /// Owns the targets of `reading` and `writing`.
    centres: Mutex<Vec<Arc<Centre>>>,
    /// Bytes of the levels of a row, without terms.
    level_bytes: usize,
    /// Rows, by slot.
    rows: Slab<u8>,
}

/// The root mean square of a component's error, divided by the distance between levels. It is 1 / sqrt(12)
/// where components are distributed uniformly between levels. For a normal distribution, whose tails lie
/// outside the outermost levels, it is 0.30 for one bit and 0.32 for four.
const ERROR_OF_STEP: f32 = 0.31;

/// The mean of the vectors of an index.
#[derive(Clone)]
pub(crate) struct Centre {
    components: Vec<f32>,
    squares: f32,
}

impl Centre {
    /// For the cosine distance, `components` is the mean of vectors of length one.
    pub fn new(components: Vec<f32>) -> Centre {
        let squares = components.iter().map(|x| x * x).sum();
        Centre { components, squares }
    }

    pub fn components(&self) -> &[f32] {
        &self.components
    }

    /// Subtracts the centre from the vector; returns the product of the two.
    fn subtract_from(&self, vector: &mut [f32]) -> f32 {
        let mut lanes = [0.0_f32; 16];
        for (vector, centre) in vector.chunks_mut(16).zip(self.components.chunks(16)) {
            for ((x, c), lane) in vector.iter_mut().zip(centre).zip(&mut lanes) {
                *lane += *x * c;
                *x = (*x - c).clamp(f32::MIN, f32::MAX);
            }
        }
        lanes.iter().sum()
    }
}

/// What a distance needs of a stored vector besides its levels. It follows the levels in the row, so that it
/// is on the same page.
#[derive(Clone, Copy)]
struct Terms {
    /// The scale of the code.
    factor: f32,
    /// The sum of the levels.
    sum: u32,
    /// See `Codes::base`.
    base: f32,
}

const TERMS_BYTES: usize = 12;

/// A query vector. Let I be the integer `2 product + sum_weight * sum' - surplus`, which is twice the product
/// of the centred levels; then the distance is `base + base' + factor * factor' * I`.
#[derive(Clone, Copy)]
pub(crate) struct CodedQuery<'a> {
    /// Signed bytes of a query, or the levels of a stored row.
    levels: &'a [u8],
    kernel: CodeKernel,
    factor: f32,
    base: f32,
    sum_weight: i64,
    surplus: i64,
    /// Multiplied by the factor of a row, the standard deviation of the distance to it; see
    /// `Codes::deviation`.
    error: f32,
}

/// Reusable memory for computing codes.
#[derive(Default)]
pub(crate) struct CodeBuffer {
    /// The vector as floats, and then its difference from the centre.
    components: Vec<f32>,
    memory: Rotated,
    levels: Vec<u8>,
    bytes: Aligned,
}

impl CodeBuffer {
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
            + self.components.capacity() * size_of::<f32>()
            + self.levels.capacity()
            + self.bytes.capacity_bytes()
    }
}

impl Codes {
    pub fn new(dimension: usize, metric: Metric, width: Width) -> Codes {
        let rotation = Rotation::new(dimension);
        let level_bytes = rotation.padded() * width.bits() / 8;
        // Rows are not aligned: aligning them to cache lines would not save a line, because with their terms
        // rows end early in one.
        let row_bytes = level_bytes + TERMS_BYTES;
        Codes {
            metric,
            width,
            rotation,
            kernels: kernels::best_for_codes(width),
            reading: AtomicPtr::default(),
            writing: AtomicPtr::default(),
            centres: Mutex::default(),
            level_bytes,
            rows: Slab::for_walks(row_bytes),
        }
    }

    /// Sets the centre of an index that has none. From now on there are codes.
    pub fn set_centre(&self, centre: Centre) {
        assert!(self.centre().is_none(), "all codes of an index have one centre");
        self.writing.store(self.keep(centre), Ordering::Release);
        self.reading.store(self.writing.load(Ordering::Relaxed), Ordering::Release);
    }

    fn keep(&self, centre: Centre) -> *mut Centre {
        let centre = Arc::new(centre);
        let kept = Arc::as_ptr(&centre).cast_mut();
        self.centres.lock().push(centre);
        kept
    }

    /// The centre of the codes that searches read; `None` while there are no codes.
    #[inline(always)]
    pub fn centre(&self) -> Option<&Centre> {
        // SAFETY: the pointer is null or points into `centres`, which drops a centre only in `end_recoding`,
        // after the last reference to it has ended. A centre is immutable.
        unsafe { self.reading.load(Ordering::Acquire).as_ref() }
    }

    /// The centre of the codes that are written; `None` while there are no codes.
    pub fn centre_to_write(&self) -> Option<&Centre> {
        // SAFETY: as in `centre`.
        unsafe { self.writing.load(Ordering::Acquire).as_ref() }
    }

    /// From now on codes are computed around this centre, and `centre` returns `None`, so that no search
    /// reads codes. No code may be under computation during the call.
    pub fn begin_recoding(&self, centre: Centre) {
        self.reading.store(ptr::null_mut(), Ordering::Release);
        self.writing.store(self.keep(centre), Ordering::Release);
    }

    /// Ends a recomputation: all codes are around the centre passed to `begin_recoding`, and searches read
    /// them again.
    ///
    /// # Safety
    /// No caller holds a reference to an earlier centre.
    pub unsafe fn end_recoding(&self) {
        let centre = self.writing.load(Ordering::Acquire);
        self.centres.lock().retain(|held| ptr::eq(Arc::as_ptr(held), centre));
        self.reading.store(centre, Ordering::Release);
    }

    /// Abandons a recomputation in which only some of the codes are around the new centre: the index has no
    /// codes.
    pub fn abandon_recoding(&self) {
        self.writing.store(ptr::null_mut(), Ordering::Release);
    }

    /// Appends the components that distances are computed from: the vector itself, or for the cosine distance
    /// the vector divided by its length.
    pub fn widen(&self, element: Element, vector: &[u8], inverse_norm: f32, out: &mut Vec<f32>) {
        out.clear();
        if self.metric == Metric::Cosine && !is_plain(inverse_norm) {
            return element.widen_direction(vector, out);
        }
        element.widen(vector, out);
        if self.metric == Metric::Cosine {
            out.iter_mut().for_each(|x| *x *= inverse_norm);
        }
    }

    pub fn width(&self) -> Width {
        self.width
    }

    pub fn ensure(&self, slot: u32) {
        self.rows.ensure(slot);
    }

    /// Allocates `slots` slots, which are about to be restored.
    pub fn reserve(&self, slots: u32) {
        self.rows.reserve(slots);
    }

    /// Computes and writes the code of a vector.
    ///
    /// # Safety
    /// No other thread reads or writes this slot's code during the call.
    pub unsafe fn fill(
        &self,
        centre: &Centre,
        slot: u32,
        element: Element,
        vector: &[u8],
        inverse_norm: f32,
        buffer: &mut CodeBuffer,
    ) {
        let CodeBuffer { components, memory, levels, bytes } = buffer;
        self.widen(element, vector, inverse_norm, components);
        let product = centre.subtract_from(components);
        let row = bytes.of_length(self.rows.row_bytes());
        let base = |squares| self.base(squares, product, inverse_norm);
        let Terms { factor, sum, base } = self.encode(components, base, memory, levels);
        pack(self.width, levels, &mut row[..self.level_bytes]);
        let terms = [factor.to_bits(), sum, base.to_bits()];
        for (bytes, term) in row[self.level_bytes..].as_chunks_mut().0.iter_mut().zip(terms) {
            *bytes = term.to_le_bytes();
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.rows.fill(slot, row) };
    }

    /// The row of a slot, in the form in which it is saved.
    pub fn row(&self, slot: u32) -> &[u8] {
        self.rows.row(slot)
    }

    /// Writes a row that was saved.
    ///
    /// # Safety
    /// See `fill`.
    pub unsafe fn restore(&self, slot: u32, row: &[u8]) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.rows.fill(slot, row) };
    }

    /// Computes the levels of a vector from its difference to the centre. `base` receives the squared length
    /// of the difference.
    fn encode(
        &self,
        difference: &[f32],
        base: impl Fn(f32) -> f32,
        memory: &mut Rotated,
        levels: &mut Vec<u8>,
    ) -> Terms {
        let size = self.rotate(difference, memory);
        let rotated = &memory.rotated;
        let squares: f32 = sum_of(rotated, |x| x * x);
        let step = self.width.step((squares / rotated.len() as f32).sqrt(), largest(rotated));
        let steps = if step > 0.0 { 1.0 / step } else { 0.0 };
        let top = self.width.top() as f32;
        let middle = top / 2.0;
        levels.clear();
        levels.extend(rotated.iter().map(|x| rounded((x * steps + middle).clamp(0.0, top))));
        let sum = levels.iter().map(|&level| u32::from(level)).sum();
        let coded = dot_of(rotated, levels, middle);
        let factor = if coded > 0.0 { size * squares / coded } else { 0.0 };
        Terms { factor, sum, base: base(size * size * squares) }
    }

    /// Rotates the vector divided by its largest component. Returns that component; 0 if the vector is zero.
    fn rotate(&self, vector: &[f32], memory: &mut Rotated) -> f32 {
        let size = largest(vector);
        let is_zero = size < f32::MIN_POSITIVE;
        self.rotation.rotate(vector, if is_zero { 0.0 } else { 1.0 / size }, memory);
        if is_zero { 0.0 } else { size }
    }

    /// Prepares a vector as a query.
    pub fn query<'a>(
        &self,
        centre: &Centre,
        element: Element,
        vector: &[u8],
        inverse_norm: f32,
        buffer: &'a mut CodeBuffer,
    ) -> CodedQuery<'a> {
        let CodeBuffer { components, memory, bytes, .. } = buffer;
        self.widen(element, vector, inverse_norm, components);
        let product = centre.subtract_from(components);
        let size = self.rotate(components, memory);
        let rotated = &memory.rotated;
        let peak = largest(rotated);
        let steps = if peak > 0.0 { 127.0 / peak } else { 0.0 };
        let levels = bytes.of_length(rotated.len());
        for (level, x) in levels.iter_mut().zip(rotated) {
            *level = rounded((x * steps).clamp(-127.0, 127.0));
        }
        let sum: i64 = levels.iter().map(|&level| i64::from(level as i8)).sum();
        let base = self.base(size * size * sum_of(rotated, |x| x * x), product, inverse_norm);
        let length = size * sum_of(rotated, |x| x * x).sqrt();
        let step = size * peak / 127.0;
        let error = self.error_of_query(length, step * ERROR_OF_STEP);
        let (base, factor) = self.outer_terms(centre, base, step);
        let surplus = self.width.top() * sum;
        CodedQuery { levels, kernel: self.kernels.query, factor, base, sum_weight: 0, surplus, error }
    }

    /// Prepares a stored vector as a query.
    #[inline(always)]
    pub fn query_of(&self, centre: &Centre, slot: u32) -> CodedQuery<'_> {
        let (levels, terms) = self.parts(slot);
        let (base, factor) = self.outer_terms(centre, terms.base, terms.factor);
        let (top, offset) = (self.width.top(), self.width.row_offset());
        let surplus = top * i64::from(terms.sum) - self.rotation.padded() as i64 * top * top / 2;
        let length = terms.factor * self.width.length_of_factor() * (self.rotation.padded() as f32).sqrt();
        let error = self.error_of_query(length, terms.factor * ERROR_OF_STEP);
        let sum_weight = 2 * offset - top;
        CodedQuery { levels, kernel: self.kernels.row, factor, base, sum_weight, surplus, error }
    }

    /// Computes `CodedQuery::error` from the length of the query (its difference from the centre) and the
    /// error of each of its components.
    #[inline(always)]
    fn error_of_query(&self, length: f32, component: f32) -> f32 {
        let of_row = ERROR_OF_STEP * length;
        let of_query = component * self.width.length_of_factor() * (self.rotation.padded() as f32).sqrt();
        let error = (of_row * of_row + of_query * of_query).sqrt();
        if self.metric == Metric::L2 { 2.0 * error } else { error }
    }

    /// The standard deviation of the result of `distance`: that of the product of two vectors, each with an
    /// error that the rotation has spread evenly over its components.
    #[inline(always)]
    pub fn deviation(&self, query: &CodedQuery<'_>, slot: u32) -> f32 {
        query.error * self.parts(slot).1.factor
    }

    /// The summand that a vector contributes to every distance, from the square of its difference to the
    /// centre and its product with the centre.
    fn base(&self, squares: f32, product: f32, inverse_norm: f32) -> f32 {
        match self.metric {
            Metric::L2 => squares,
            // The zero vector is at distance 1 from every vector.
            Metric::Cosine if inverse_norm == 0.0 => 0.5 * squares + 0.5,
            Metric::Cosine => 0.5 * squares,
            Metric::InnerProduct => -product,
        }
    }

    /// The base and the factor of a query, from the terms of a row for the same vector. (I is twice a
    /// product: hence the halves.)
    #[inline(always)]
    fn outer_terms(&self, centre: &Centre, base: f32, scale: f32) -> (f32, f32) {
        match self.metric {
            Metric::L2 => (base, -scale),
            Metric::Cosine => (base, -0.5 * scale),
            Metric::InnerProduct => (1.0 + centre.squares + base, -0.5 * scale),
        }
    }

    #[inline(always)]
    fn parts(&self, slot: u32) -> (&[u8], Terms) {
        let (levels, terms) = self.rows.row(slot).split_at(self.level_bytes);
        let [factor, sum, base, ..] = *terms.as_chunks().0 else { unreachable!("a row has its terms") };
        let (factor, base) = (f32::from_le_bytes(factor), f32::from_le_bytes(base));
        (levels, Terms { factor, sum: u32::from_le_bytes(sum), base })
    }

    #[inline(always)]
    pub fn distance(&self, query: &CodedQuery<'_>, slot: u32) -> f32 {
        let (levels, terms) = self.parts(slot);
        let product = 2 * i64::from((query.kernel)(query.levels, levels));
        let centred = product + query.sum_weight * i64::from(terms.sum) - query.surplus;
        kernels::ordered(query.base + terms.base + query.factor * terms.factor * centred as f32)
    }

    pub fn row_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// The number of cache lines of a row that are worth a prefetch.
    pub fn prefetch_lines(&self) -> usize {
        self.rows.row_bytes().div_ceil(64).min(8)
    }

    #[inline(always)]
    pub fn prefetch(&self, slot: u32, lines: usize) {
        self.rows.prefetch(slot, lines);
    }
}

/// The nearest integer, for numbers from -128 to 255. Adding a number so large that no bits remain for the
/// fraction rounds; the compiler vectorizes this, and it takes half the time of `round`.
#[inline(always)]
fn rounded(x: f32) -> u8 {
    const ROUNDER: f32 = 12_582_912.0;
    (x + ROUNDER).to_bits() as u8
}

fn largest(vector: &[f32]) -> f32 {
    let (chunks, rest) = vector.as_chunks::<16>();
    let mut lanes = [0.0_f32; 16];
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = lane.max(x.abs()));
    }
    lanes.iter().chain(rest).fold(0.0, |largest, x| largest.max(x.abs()))
}

fn sum_of(rotated: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for chunk in rotated.as_chunks::<16>().0 {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += term(x));
    }
    lanes.iter().sum()
}

fn dot_of(rotated: &[f32], levels: &[u8], middle: f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (chunk, levels) in rotated.as_chunks::<16>().0.iter().zip(levels.as_chunks::<16>().0) {
        for lane in 0..16 {
            lanes[lane] += chunk[lane] * (f32::from(levels[lane]) - middle);
        }
    }
    lanes.iter().sum()
}

fn pack(width: Width, levels: &[u8], row: &mut [u8]) {
    match width {
        Width::Eight => row.copy_from_slice(levels),
        Width::Four => {
            for (levels, bytes) in levels.as_chunks::<BLOCK>().0.iter().zip(row.as_chunks_mut::<64>().0) {
                let (low, high) = levels.split_at(64);
                for (byte, (low, high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
                    *byte = low | high << 4;
                }
            }
        }
        Width::One => {
            for (levels, byte) in levels.as_chunks::<8>().0.iter().zip(row) {
                *byte = levels.iter().rev().fold(0, |bits, level| bits << 1 | level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes_of;

    const WIDTHS: [Width; 3] = [Width::Eight, Width::Four, Width::One];

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mixed = |i: u32| (i.wrapping_mul(2_654_435_761) ^ salt).wrapping_mul(2_246_822_519);
        (0..count as u32).map(|i| (mixed(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
    }

    /// The distance of a query to a stored vector, and of two stored vectors.
    fn coded_distances(metric: Metric, width: Width, centre: f32, a: &[f32], b: &[f32]) -> [f32; 2] {
        let codes = Codes::new(a.len(), metric, width);
        let centre = Centre::new(vec![centre; a.len()]);
        let norm = |vector| Element::F32.inverse_norm(bytes_of(vector));
        codes.ensure(1);
        let mut buffer = CodeBuffer::default();
        for (slot, vector) in [(0, b), (1, a)] {
            codes.ensure(slot);
            // SAFETY: one thread.
            unsafe { codes.fill(&centre, slot, Element::F32, bytes_of(vector), norm(vector), &mut buffer) };
        }
        let query = codes.query(&centre, Element::F32, bytes_of(a), norm(a), &mut buffer);
        [codes.distance(&query, 0), codes.distance(&codes.query_of(&centre, 1), 0)]
    }

    #[test]
    fn distances_between_codes_are_near_the_true_ones() {
        for length in [1, 3, 64, 100, 384, 1536] {
            let (a, b) = (numbers(length, 3), numbers(length, 4));
            for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
                for (scale, width) in [1.0, 1e-15, 1e15].into_iter().flat_map(|s| WIDTHS.map(|w| (s, w))) {
                    let (a, b): (Vec<f32>, Vec<f32>) =
                        (a.iter().map(|x| x * scale).collect(), b.iter().map(|x| x * scale).collect());
                    let exact = kernels::distance(metric, &a, &b);
                    let size = match metric {
                        Metric::Cosine => 1.0,
                        _ => 1.0 + length as f32 * scale * scale,
                    };
                    let tolerance = match width {
                        Width::Eight => 0.01,
                        Width::Four => 0.05,
                        // One component has one bit: its sign.
                        Width::One => {
                            if length < 64 {
                                1.0
                            } else {
                                0.4
                            }
                        }
                    };
                    for near in coded_distances(metric, width, 0.0, &a, &b) {
                        assert!(
                            (near - exact).abs() <= tolerance * size,
                            "{metric:?} {width:?} {length} {scale}: {near}, {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_mean_of_the_vectors_uses_no_levels() {
        let (a, b) = (numbers(384, 3), numbers(384, 4));
        for (width, tolerance) in [(Width::Eight, 0.01), (Width::Four, 0.05), (Width::One, 0.4)] {
            for offset in [0.0, 1.0, 100.0] {
                let shifted = |vector: &[f32]| vector.iter().map(|x| x + offset).collect::<Vec<f32>>();
                let (x, y) = (shifted(&a), shifted(&b));
                let exact = kernels::distance(Metric::L2, &a, &b);
                for near in coded_distances(Metric::L2, width, offset, &x, &y) {
                    assert!((near - exact).abs() <= tolerance * exact, "{width:?} {offset}: {near}, {exact}");
                }
                // Lengths grow with the offset, and angles between the vectors shrink with its square.
                let centre = offset * Element::F32.inverse_norm(bytes_of(&x));
                let exact = kernels::distance(Metric::Cosine, &x, &y);
                for near in coded_distances(Metric::Cosine, width, centre, &x, &y) {
                    let tolerance = tolerance * exact + 1e-6;
                    assert!((near - exact).abs() <= tolerance, "{width:?} {offset}: {near}, {exact}");
                }
            }
        }
    }

    #[test]
    fn zero_tiny_and_huge_vectors_have_distances_with_an_order() {
        let zero = [0.0; 70];
        for width in WIDTHS {
            assert_eq!(coded_distances(Metric::Cosine, width, 0.0, &zero, &numbers(70, 1)), [1.0; 2]);
            assert_eq!(coded_distances(Metric::L2, width, 0.0, &zero, &zero), [0.0; 2]);
            for x in [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45] {
                for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
                    for distance in coded_distances(metric, width, x, &[x; 70], &[-x; 70]) {
                        assert!(!distance.is_nan(), "{metric:?} {width:?} {x}");
                    }
                }
            }
        }
    }
}
