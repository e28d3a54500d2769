//! HyperLogLogs, bitmaps, bitfields and positions beside models that are written from their definitions:
//! random commands, whose replies must be the model's, and the same content after a replay.

use engramdb_resp::{Protocol, Value};
use engramdb_testkit::instance::{Instance, Kept};
use proptest::prelude::*;
use std::collections::BTreeMap;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn text(reply: Value) -> String {
    reply.as_str().unwrap_or_else(|| panic!("a text: {reply:?}")).to_owned()
}

fn finish(mut instance: Instance) {
    instance.crash(0);
    instance.snapshot();
    instance.restart_with(Kept { snapshots: true, derived: false });
    instance.check_replay();
}

mod hyperloglogs {
    use super::*;

    const REGISTERS: usize = 16_384;

    /// MurmurHash64A with Redis's seed.
    fn hash(bytes: &[u8]) -> u64 {
        const M: u64 = 0xc6a4_a793_5bd1_e995;
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut hash = 0xadc8_3b19 ^ (bytes.len() as u64).wrapping_mul(M);
        for chunk in chunks {
            let mut word = u64::from_le_bytes(*chunk).wrapping_mul(M);
            word ^= word >> 47;
            hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
        }
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u64::from(*byte) << (8 * place);
        }
        if !rest.is_empty() {
            hash = hash.wrapping_mul(M);
        }
        hash = (hash ^ hash >> 47).wrapping_mul(M);
        hash ^ hash >> 47
    }

    /// True if a register has grown.
    fn add(registers: &mut [u8], element: &[u8]) -> bool {
        let hash = hash(element);
        let register = &mut registers[hash as usize % REGISTERS];
        let value = 1 + (hash >> 14 | 1 << 50).trailing_zeros() as u8;
        let is_larger = value > *register;
        *register = (*register).max(value);
        is_larger
    }

    fn tau(mut x: f64) -> f64 {
        if x == 0.0 || x == 1.0 {
            return 0.0;
        }
        let (mut y, mut z) = (1.0, 1.0 - x);
        loop {
            x = x.sqrt();
            let before = z;
            y *= 0.5;
            z -= (1.0 - x).powi(2) * y;
            if before == z {
                return z / 3.0;
            }
        }
    }

    fn sigma(mut x: f64) -> f64 {
        if x == 1.0 {
            return f64::INFINITY;
        }
        let (mut y, mut z) = (1.0, x);
        loop {
            x *= x;
            let before = z;
            z += x * y;
            y += y;
            if before == z {
                return z;
            }
        }
    }

    /// Ertl's estimate (2017), as Redis computes it.
    fn estimate(registers: &[u8]) -> i64 {
        let m = REGISTERS as f64;
        let mut counts = [0.0; 64];
        registers.iter().for_each(|value| counts[usize::from(*value)] += 1.0);
        let mut z = m * tau((m - counts[51]) / m);
        for count in counts[1..=50].iter().rev() {
            z = (z + count) * 0.5;
        }
        z += m * sigma(counts[0] / m);
        (0.721_347_520_444_481_7 * m * m / z).round() as i64
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Elements of a range of numbers.
        Add(usize, u32, u32),
        Merge(usize, Vec<usize>),
        Count(Vec<usize>),
        Delete(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let keys = || prop::collection::vec(0..KEYS.len(), 1..4);
        prop_oneof![
            6 => (0..KEYS.len(), 0..5000u32, prop_oneof![5 => 0..5u32, 1 => 500..1500u32])
                .prop_map(|(key, first, count)| Step::Add(key, first, count)),
            2 => (0..KEYS.len(), keys()).prop_map(|(key, from)| Step::Merge(key, from)),
            3 => keys().prop_map(Step::Count),
            1 => (0..KEYS.len()).prop_map(Step::Delete),
        ]
    }

    fn union(model: &BTreeMap<usize, Vec<u8>>, keys: &[usize]) -> Vec<u8> {
        let mut all = vec![0; REGISTERS];
        for registers in keys.iter().filter_map(|key| model.get(key)) {
            all.iter_mut().zip(registers).for_each(|(one, other)| *one = (*one).max(*other));
        }
        all
    }

    fn run(instance: &mut Instance, model: &mut BTreeMap<usize, Vec<u8>>, step: &Step) {
        match step {
            Step::Add(key, first, count) => {
                let mut words = vec!["PFADD".to_owned(), KEYS[*key].to_owned()];
                words.extend((*first..first + count).map(|number| format!("element {number}")));
                let mut changed = !model.contains_key(key);
                let registers = model.entry(*key).or_insert_with(|| vec![0; REGISTERS]);
                for word in &words[2..] {
                    changed |= add(registers, word.as_bytes());
                }
                assert_eq!(instance.run(&words).reply, Value::Integer(changed.into()), "{step:?}");
            }
            Step::Merge(key, from) => {
                let mut words = vec!["PFMERGE", KEYS[*key]];
                words.extend(from.iter().map(|key| KEYS[*key]));
                assert!(!instance.run(&words).reply.is_error());
                let all = union(model, &[&from[..], &[*key]].concat());
                model.insert(*key, all);
            }
            Step::Count(keys) => {
                let mut words = vec!["PFCOUNT"];
                words.extend(keys.iter().map(|key| KEYS[*key]));
                let wanted = estimate(&union(model, keys));
                assert_eq!(instance.run(&words).reply, Value::Integer(wanted), "{step:?}");
            }
            Step::Delete(key) => {
                model.remove(key);
                instance.run(&["DEL", KEYS[*key]]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counts_agree_to_the_digit(steps in prop::collection::vec(step(), 1..30)) {
            let mut instance = Instance::new(1, Protocol::Resp3);
            let mut model = BTreeMap::new();
            for step in &steps {
                run(&mut instance, &mut model, step);
            }
            for key in 0..KEYS.len() {
                run(&mut instance, &mut model, &Step::Count(vec![key]));
            }
            finish(instance);
        }
    }
}

mod bits {
    use super::*;

    /// Strings by key; an absent key has none.
    type Model = BTreeMap<usize, Vec<u8>>;

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, u32, bool),
        Get(usize, u32),
        /// With a range in bytes or in bits.
        Count(usize, i64, i64, bool),
        Position(usize, bool, i64, i64, bool),
        Operation(usize, &'static str, Vec<usize>),
        /// Of a bitfield: signed, width, offset, what is done, by how much, overflow.
        Field(usize, (bool, u32), u32, &'static str, i64, &'static str),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = || prop_oneof![5 => 0..40u32, 1 => 0..3000u32];
        let end = || -40..40i64;
        let key = || 0..KEYS.len();
        let width = any::<bool>().prop_flat_map(|signed| (Just(signed), 1..=if signed { 64u32 } else { 63 }));
        let amount = prop_oneof![3 => -40..40i64, 1 => any::<i64>()];
        let operation = prop::sample::select(vec!["AND", "OR", "XOR", "NOT"]);
        let overflow = prop::sample::select(vec!["WRAP", "SAT", "FAIL"]);
        let what = prop::sample::select(vec!["GET", "SET", "INCRBY", "INCRBY"]);
        prop_oneof![
            4 => (key(), offset(), any::<bool>()).prop_map(|(key, at, bit)| Step::Set(key, at, bit)),
            1 => (key(), offset()).prop_map(|(key, at)| Step::Get(key, at)),
            2 => (key(), end(), end(), any::<bool>()).prop_map(|(key, a, b, c)| Step::Count(key, a, b, c)),
            2 => (key(), any::<bool>(), end(), end(), any::<bool>())
                .prop_map(|(key, bit, a, b, c)| Step::Position(key, bit, a, b, c)),
            2 => (key(), operation, prop::collection::vec(0..KEYS.len(), 1..4))
                .prop_map(|(key, name, from)| Step::Operation(key, name, from)),
            4 => (key(), width, offset(), what, amount, overflow)
                .prop_map(|(key, width, at, what, by, overflow)| Step::Field(key, width, at, what, by, overflow)),
        ]
    }

    fn bit(bytes: &[u8], at: usize) -> bool {
        bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
    }

    fn put(bytes: &mut Vec<u8>, at: usize, is_set: bool) {
        grow(bytes, at + 1);
        let mask = 1 << (7 - at % 8);
        if is_set { bytes[at / 8] |= mask } else { bytes[at / 8] &= !mask }
    }

    fn grow(bytes: &mut Vec<u8>, bits: usize) {
        let length = bytes.len().max(bits.div_ceil(8));
        bytes.resize(length, 0);
    }

    /// The bits between two ends, each from the back if negative; `None` for none.
    fn range(
        bytes: &[u8],
        (start, end): (i64, i64),
        in_bits: bool,
    ) -> Option<std::ops::RangeInclusive<usize>> {
        let all = bytes.len() as i64 * if in_bits { 8 } else { 1 };
        let place = |end: i64| if end < 0 { (all + end).max(0) } else { end };
        let (start, end) = (place(start), place(end).min(all - 1));
        let unit = if in_bits { 1 } else { 8 };
        (start <= end).then(|| (start * unit) as usize..=(end * unit + unit - 1) as usize)
    }

    fn field(instance: &mut Instance, model: &mut Model, step: &Step) {
        let Step::Field(key, (signed, width), at, what, by, overflow) = step else { unreachable!("a field") };
        let (kind, at) = (if *signed { "i" } else { "u" }, *at as usize);
        let mut words: Vec<String> = ["BITFIELD", KEYS[*key], "OVERFLOW", overflow].map(String::from).into();
        words.extend([(*what).to_owned(), format!("{kind}{width}"), at.to_string()]);
        if *what != "GET" {
            words.push(by.to_string());
        }
        let width = *width as usize;
        let empty = Vec::new();
        let stored = model.get(key).unwrap_or(&empty);
        let raw = (0..width).fold(0i128, |sum, place| sum << 1 | i128::from(bit(stored, at + place)));
        let modulus = 1i128 << width;
        let wrap = |value: i128| {
            let value = value.rem_euclid(modulus);
            if *signed && value >= modulus / 2 { value - modulus } else { value }
        };
        let old = wrap(raw);
        let (least, most) = if *signed { (-modulus / 2, modulus / 2 - 1) } else { (0, modulus - 1) };
        let sum = match *what {
            "GET" => old,
            // An unsigned field takes the bits of a negative number.
            "SET" if !*signed => i128::from(by.cast_unsigned()),
            "SET" => i128::from(*by),
            _ => old + i128::from(*by),
        };
        let new = match *overflow {
            _ if (least..=most).contains(&sum) => Some(sum),
            "WRAP" => Some(wrap(sum)),
            // Redis's distance to the largest number overflows here: it takes the number for too large.
            "SAT" if *what == "SET" && *signed && width < 64 && most - sum > i128::from(i64::MAX) => {
                Some(most)
            }
            "SAT" => Some(sum.clamp(least, most)),
            _ => None,
        };
        let reply = match *what {
            "GET" => Some(old),
            "SET" => new.map(|_| old),
            _ => new,
        };
        if *what != "GET" {
            let stored = model.entry(*key).or_default();
            grow(stored, at + width);
            if let Some(new) = new {
                for place in 0..width {
                    put(stored, at + place, new >> (width - 1 - place) & 1 == 1);
                }
            }
        }
        let reply =
            reply.map_or(Value::Null, |value| Value::Integer(i64::try_from(value).expect("in range")));
        assert_eq!(instance.run(&words).reply, Value::Array(vec![reply]), "{words:?}");
    }

    fn operation(instance: &mut Instance, model: &mut Model, step: &Step) {
        let Step::Operation(key, name, from) = step else { unreachable!("an operation") };
        let from = if *name == "NOT" { &from[..1] } else { &from[..] };
        let mut words = vec!["BITOP", name, KEYS[*key]];
        words.extend(from.iter().map(|key| KEYS[*key]));
        let sources: Vec<Vec<u8>> =
            from.iter().map(|key| model.get(key).cloned().unwrap_or_default()).collect();
        let length = sources.iter().map(Vec::len).max().unwrap_or(0);
        let byte = |place: usize| {
            let bytes = sources.iter().map(|source| source.get(place).copied().unwrap_or(0));
            let all = match *name {
                "AND" => bytes.reduce(|one, other| one & other),
                "OR" => bytes.reduce(|one, other| one | other),
                "XOR" => bytes.reduce(|one, other| one ^ other),
                _ => bytes.map(|byte| !byte).next(),
            };
            all.expect("there is a source")
        };
        let result: Vec<u8> = (0..length).map(byte).collect();
        if result.is_empty() {
            _ = model.remove(key)
        } else {
            _ = model.insert(*key, result)
        }
        assert_eq!(instance.run(&words).reply, Value::Integer(length as i64), "{words:?}");
    }

    fn run(instance: &mut Instance, model: &mut Model, step: &Step) {
        let unit = |in_bits: bool| if in_bits { "BIT" } else { "BYTE" };
        let none = Vec::new();
        match step {
            Step::Set(key, at, is_set) => {
                let stored = model.entry(*key).or_default();
                let before = bit(stored, *at as usize);
                put(stored, *at as usize, *is_set);
                let words = ["SETBIT", KEYS[*key], &at.to_string(), if *is_set { "1" } else { "0" }];
                assert_eq!(instance.run(&words).reply, Value::Integer(before.into()), "{step:?}");
            }
            Step::Get(key, at) => {
                let is_set = bit(model.get(key).unwrap_or(&none), *at as usize);
                let reply = instance.run(&["GETBIT", KEYS[*key], &at.to_string()]).reply;
                assert_eq!(reply, Value::Integer(is_set.into()), "{step:?}");
            }
            Step::Count(key, start, end, in_bits) => {
                let stored = model.get(key).unwrap_or(&none);
                // Redis looks at ends that are in the wrong order before it brings them into the string.
                let is_turned = *start < 0 && *end < 0 && start > end;
                let bits = range(stored, (*start, *end), *in_bits).filter(|_| !is_turned);
                let count = bits.into_iter().flatten().filter(|at| bit(stored, *at)).count();
                let words = ["BITCOUNT", KEYS[*key], &start.to_string(), &end.to_string(), unit(*in_bits)];
                assert_eq!(instance.run(&words).reply, Value::Integer(count as i64), "{step:?}");
            }
            Step::Position(key, wanted, start, end, in_bits) => {
                let stored = model.get(key).unwrap_or(&none);
                let mut bits = range(stored, (*start, *end), *in_bits).into_iter().flatten();
                let place = bits.find(|at| bit(stored, *at) == *wanted);
                let place = place.map_or(-1, |at| at as i64);
                // An absent key is a run of zeros.
                let place = if model.contains_key(key) { place } else { i64::from(*wanted).wrapping_neg() };
                let bit = if *wanted { "1" } else { "0" };
                let words = ["BITPOS", KEYS[*key], bit, &start.to_string(), &end.to_string(), unit(*in_bits)];
                assert_eq!(instance.run(&words).reply, Value::Integer(place), "{step:?} of {stored:?}");
            }
            Step::Operation(..) => operation(instance, model, step),
            Step::Field(..) => field(instance, model, step),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn bits_and_fields_are_those_of_the_model(steps in prop::collection::vec(step(), 1..60)) {
            let mut instance = Instance::new(1, Protocol::Resp3);
            let mut model = Model::new();
            for step in &steps {
                run(&mut instance, &mut model, step);
            }
            for (index, key) in KEYS.iter().enumerate() {
                let wanted = model.get(&index).map_or(Value::Null, |bytes| Value::Bulk(bytes.clone()));
                prop_assert_eq!(instance.run(&["GET", key]).reply, wanted);
            }
            finish(instance);
        }
    }
}

mod positions {
    use super::*;

    const LATITUDE_MAX: f64 = 85.051_128_78;
    const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
    /// Distances this near to a limit are not compared.
    const NEAR_M: f64 = 1.0;

    /// The 26 bits of a coordinate, and the middle of its cell.
    fn cell(value: f64, most: f64) -> (u64, f64) {
        let scale = (1u64 << 26) as f64;
        let number = ((value + most) / (2.0 * most) * scale) as u64;
        let edge = |number: u64| -most + number as f64 / scale * 2.0 * most;
        (number, ((edge(number) + edge(number + 1)) / 2.0).clamp(-most, most))
    }

    fn score(longitude: f64, latitude: f64) -> u64 {
        let (x, y) = (cell(longitude, 180.0).0, cell(latitude, LATITUDE_MAX).0);
        (0..26).fold(0, |sum, bit| sum | (y >> bit & 1) << (2 * bit) | (x >> bit & 1) << (2 * bit + 1))
    }

    fn middle((longitude, latitude): (f64, f64)) -> (f64, f64) {
        (cell(longitude, 180.0).1, cell(latitude, LATITUDE_MAX).1)
    }

    fn distance(one: (f64, f64), other: (f64, f64)) -> f64 {
        let (u, v) =
            (((other.1 - one.1).to_radians() / 2.0).sin(), ((other.0 - one.0).to_radians() / 2.0).sin());
        let a = u * u + one.1.to_radians().cos() * other.1.to_radians().cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }

    /// Whether a position is in an area; `None` if it is too near to the edge.
    fn is_inside(point: (f64, f64), centre: (f64, f64), area: &Area) -> Option<bool> {
        let within =
            |distance: f64, most: f64| ((distance - most).abs() > NEAR_M).then_some(distance <= most);
        match *area {
            Area::Radius(radius) => within(distance(point, centre), radius),
            Area::Box(width, height) => {
                let north = within(distance((0.0, point.1), (0.0, centre.1)), height / 2.0)?;
                let east = within(distance(point, (centre.0, point.1)), width / 2.0)?;
                Some(north && east)
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Area {
        Radius(f64),
        Box(f64, f64),
    }

    fn point() -> impl Strategy<Value = (f64, f64)> {
        let near = |most: f64| prop_oneof![2 => -most..most, 2 => -0.5..0.5f64, 1 => (0.98 * most)..most];
        // Near the poles the cells that Redis looks at do not cover the area, and EngramDB looks at the same.
        (near(179.9), near(65.0))
    }

    fn area() -> impl Strategy<Value = Area> {
        let length = || prop_oneof![100.0..100_000.0f64, 10_000.0..8_000_000.0f64];
        prop_oneof![
            length().prop_map(Area::Radius),
            (length(), length()).prop_map(|(width, height)| Area::Box(width, height)),
        ]
    }

    fn check_area(instance: &mut Instance, model: &[(f64, f64)], centre: (f64, f64), area: &Area) {
        let mut words: Vec<String> = vec!["GEOSEARCH".into(), "g".into(), "FROMLONLAT".into()];
        words.extend([centre.0.to_string(), centre.1.to_string()]);
        match area {
            Area::Radius(radius) => words.extend(["BYRADIUS".into(), radius.to_string()]),
            Area::Box(width, height) => {
                words.extend(["BYBOX".into(), width.to_string(), height.to_string()]);
            }
        }
        words.push("m".into());
        let reply = instance.run(&words).reply;
        let found = reply.as_array().unwrap_or_else(|| panic!("{words:?}: {reply:?}"));
        let found: Vec<&str> = found.iter().filter_map(Value::as_str).collect();
        for (number, point) in model.iter().enumerate() {
            if let Some(wanted) = is_inside(middle(*point), centre, area) {
                let is_found = found.contains(&&*number.to_string());
                assert_eq!(is_found, wanted, "{number} at {point:?}: {words:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn searches_find_what_a_look_at_all_finds(
            points in prop::collection::vec(point(), 1..60),
            questions in prop::collection::vec((point(), area()), 1..12),
        ) {
            let mut instance = Instance::new(1, Protocol::Resp2);
            for (number, (longitude, latitude)) in points.iter().enumerate() {
                let (member, x, y) = (number.to_string(), longitude.to_string(), latitude.to_string());
                instance.run(&["GEOADD", "g", &x, &y, &member]);
                let stored = text(instance.run(&["ZSCORE", "g", &member]).reply);
                prop_assert_eq!(stored, score(*longitude, *latitude).to_string());
            }
            for (number, point) in points.iter().enumerate() {
                let reply = instance.run(&["GEODIST", "g", "0", &number.to_string()]).reply;
                let shown: f64 = text(reply).parse().expect("a number");
                prop_assert!((shown - distance(middle(points[0]), middle(*point))).abs() < 0.01);
            }
            for (centre, area) in &questions {
                check_area(&mut instance, &points, *centre, area);
            }
            finish(instance);
        }
    }
}
