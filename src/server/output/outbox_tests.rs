//! Tests of the outbox: order, gates, pieces, limits.

use super::*;

fn reply(outbox: &mut Outbox, text: &str, gate: u64, durable: u64) {
    outbox.tail().extend_from_slice(text.as_bytes());
    outbox.seal(Lsn(gate), Lsn(durable));
}

fn sendable(outbox: &Outbox) -> &str {
    std::str::from_utf8(outbox.sendable()).expect("test replies are text")
}

#[test]
fn a_reply_waits_for_its_gate_and_for_earlier_ones() {
    let mut outbox = Outbox::default();
    reply(&mut outbox, "a", 0, 5);
    reply(&mut outbox, "b", 7, 5);
    reply(&mut outbox, "c", 0, 5);
    assert_eq!(sendable(&outbox), "a");
    assert_eq!(outbox.release(Lsn(6)), Some(Lsn(7)));
    assert_eq!(sendable(&outbox), "a");
    outbox.sent(1);
    assert_eq!(outbox.release(Lsn(7)), None);
    assert_eq!(sendable(&outbox), "bc");
    outbox.sent(2);
    assert!(outbox.is_empty());
}

#[test]
fn a_later_round_does_not_delay_an_earlier_one() {
    let mut outbox = Outbox::default();
    reply(&mut outbox, "a", 3, 0);
    reply(&mut outbox, "b", 4, 0);
    outbox.begin_round(usize::MAX);
    reply(&mut outbox, "c", 9, 0);
    assert_eq!(outbox.release(Lsn(3)), Some(Lsn(4)), "one round is one segment");
    assert_eq!(outbox.release(Lsn(4)), Some(Lsn(9)));
    assert_eq!(sendable(&outbox), "ab");
    outbox.sent(1);
    assert_eq!(outbox.release(Lsn(9)), None);
    assert_eq!(sendable(&outbox), "bc");
}

#[test]
fn a_reply_without_a_gate_is_not_sealed() {
    let mut outbox = Outbox::default();
    assert!(outbox.is_sealed());
    for (gate, durable) in [(0, 5), (7, 5), (8, 5), (0, 9)] {
        outbox.tail().extend_from_slice(b"reply");
        assert!(!outbox.is_sealed());
        outbox.seal(Lsn(gate), Lsn(durable));
        assert!(outbox.is_sealed());
        outbox.begin_round(usize::MAX);
        assert!(outbox.is_sealed());
    }
    outbox.release(Lsn(9));
    assert!(outbox.is_sealed());
    while !outbox.sendable().is_empty() {
        let bytes = outbox.sendable().len();
        outbox.sent(bytes);
    }
    assert!(outbox.is_sealed());
}

#[test]
#[should_panic(expected = "held bytes were sent")]
fn held_bytes_cannot_be_sent() {
    let mut outbox = Outbox::default();
    reply(&mut outbox, "free", 0, 5);
    reply(&mut outbox, "held", 6, 5);
    outbox.sent(5);
}

#[test]
#[should_panic(expected = "a reply is sent once")]
fn what_was_sealed_elsewhere_cannot_be_taken_over() {
    let (mut outbox, mut other) = (Outbox::default(), Outbox::default());
    reply(&mut other, "held", 6, 5);
    outbox.append(other);
}

#[test]
fn the_highest_gate_of_what_was_released_is_known() {
    let mut outbox = Outbox::default();
    reply(&mut outbox, "a", 4, 5);
    assert_eq!(outbox.released_gate(), Lsn(4));
    reply(&mut outbox, "b", 7, 5);
    outbox.begin_round(usize::MAX);
    reply(&mut outbox, "c", 9, 5);
    assert_eq!((outbox.release(Lsn(8)), outbox.released_gate()), (Some(Lsn(9)), Lsn(7)));
    assert_eq!((outbox.release(Lsn(9)), outbox.released_gate()), (None, Lsn(9)));
}

#[test]
fn only_replies_before_held_ones_of_their_round_may_wait() {
    let mut outbox = Outbox::default();
    outbox.begin_round(usize::MAX);
    reply(&mut outbox, "a", 0, 0);
    assert!(!outbox.may_wait_for_held(), "nothing is held");
    reply(&mut outbox, "b", 1, 0);
    assert!(outbox.may_wait_for_held() && sendable(&outbox) == "a");
    outbox.begin_round(usize::MAX);
    reply(&mut outbox, "c", 2, 0);
    assert!(!outbox.may_wait_for_held(), "the sendable replies are of the previous round");
    assert_eq!(outbox.release(Lsn(1)), Some(Lsn(2)));
    assert_eq!(sendable(&outbox), "ab");
    outbox.sent(2);
    assert_eq!(outbox.release(Lsn(2)), None);
    outbox.sent(1);
    outbox.begin_round(usize::MAX);
    reply(&mut outbox, &"x".repeat(WAITING_BYTES_MAX + 1), 0, 2);
    reply(&mut outbox, "held", 3, 2);
    assert!(!outbox.may_wait_for_held(), "it is too much to wait");
}

/// Sends all sendable bytes; returns their number.
fn send(outbox: &mut Outbox) -> usize {
    let mut sum = 0;
    while !outbox.sendable().is_empty() {
        let bytes = outbox.sendable().len().min(100_000);
        outbox.sent(bytes);
        sum += bytes;
    }
    sum
}

#[test]
fn long_output_is_kept_and_freed_in_pieces() {
    let mut outbox = Outbox::default();
    for _ in 0..10 {
        reply(&mut outbox, &"x".repeat(100_000), 0, 0);
    }
    reply(&mut outbox, "held", 1, 0);
    assert_eq!((outbox.len(), outbox.pieces.len()), (1_000_004, 3));
    assert_eq!(send(&mut outbox), 1_000_000);
    assert_eq!((outbox.pieces.len(), outbox.pieces_bytes), (0, 0), "sent pieces are gone");
    assert_eq!(outbox.release(Lsn(1)), None);
    assert_eq!(sendable(&outbox), "held");
    outbox.sent(4);
    assert!(outbox.is_empty() && outbox.heap_bytes() == 0);
}

#[test]
fn a_reply_is_taken_back_over_pieces() {
    let mut outbox = Outbox::default();
    reply(&mut outbox, "kept", 0, 0);
    let mark = outbox.end();
    for _ in 0..10 {
        outbox.tail().extend_from_slice(&[b'x'; 100_000]);
    }
    outbox.large_tail(500_000).expect("no limit").extend_from_slice(&[b'y'; 500_000]);
    outbox.rewind(mark);
    reply(&mut outbox, " too", 0, 0);
    assert_eq!(sendable(&outbox), "kept too");
    assert_eq!(outbox.pieces_bytes, 0);
    let usage = outbox.usage();
    assert_eq!((usage.pieces, usage.tail_bytes), (1, 0), "a large tail is shown as a piece");
}

#[test]
fn beyond_the_limit_all_is_dropped_and_no_more_is_kept() {
    let mut outbox = Outbox::default();
    outbox.begin_round(1_000_000);
    reply(&mut outbox, "held", 1, 0);
    assert!(outbox.large_tail(2_000_000).is_none());
    assert!(outbox.has_overflowed() && outbox.is_empty() && outbox.heap_bytes() == 0);
    let mut outbox = Outbox::default();
    outbox.begin_round(1_000_000);
    for _ in 0..100 {
        outbox.tail().extend_from_slice(&[b'x'; 100_000]);
    }
    outbox.rewind(0);
    outbox.seal(Lsn(0), Lsn(0));
    assert!(outbox.has_overflowed() && outbox.sendable().is_empty());
    assert!(outbox.pieces.is_empty() && outbox.heap_bytes() < 1_000_000, "{}", outbox.heap_bytes());
}

#[test]
fn an_unwanted_reply_takes_no_memory_and_no_part_of_the_limit() {
    let mut outbox = Outbox::default();
    outbox.begin_round(1_000_000);
    reply(&mut outbox, "wanted", 0, 0);
    let mark = outbox.end();
    outbox.begin_unwanted();
    for _ in 0..100 {
        outbox.tail().extend_from_slice(&[b'x'; 100_000]);
    }
    assert!(outbox.large_tail(2_000_000).is_none());
    outbox.rewind(mark);
    outbox.end_unwanted();
    assert!(!outbox.has_overflowed());
    assert_eq!(sendable(&outbox), "wanted");
    assert!(outbox.heap_bytes() < 1_000_000);
}

/// Appends, refers, cuts and sends at random, and compares with a plain buffer.
#[test]
fn bytes_leave_in_order_for_every_mix_of_pieces() {
    let shared = Arc::new((0..3 * LARGE_BYTES).map(|at| at as u8).collect::<Vec<u8>>());
    for seed in 1..30u64 {
        let (mut outbox, mut plain, mut state) = (Outbox::default(), Vec::new(), seed);
        for _ in 0..100 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let size = (state >> 33) as usize % (2 * LARGE_BYTES);
            let (sealed, before) = (plain.len(), outbox.end());
            match (state >> 20) % 4 {
                0 => {
                    outbox.append_shared(&shared, size / 2..size);
                    plain.extend_from_slice(&shared[size / 2..size]);
                }
                1 => {
                    let mut other = outbox.like();
                    other.tail().extend_from_slice(&shared[..size]);
                    other.append_shared(&shared, 0..size);
                    plain.extend([&shared[..size], &shared[..size]].concat());
                    outbox.append(other);
                }
                _ => {
                    outbox.tail().extend_from_slice(&shared[..size / 8]);
                    plain.extend_from_slice(&shared[..size / 8]);
                }
            }
            let kept = (plain.len() - sealed) / (1 + size % 3);
            outbox.rewind(before + kept);
            plain.truncate(sealed + kept);
            outbox.seal(Lsn(0), Lsn(0));
            let sendable = outbox.sendable().to_vec();
            assert!(plain.starts_with(&sendable));
            let sent = sendable.len().min(size);
            outbox.sent(sent);
            plain.drain(..sent);
            assert_eq!(outbox.len(), plain.len());
        }
        while !outbox.is_empty() {
            let sent = outbox.sendable().len();
            assert_eq!(outbox.sendable(), &plain[..sent]);
            outbox.sent(sent);
            plain.drain(..sent);
        }
    }
}

#[test]
fn a_large_value_beyond_the_limit_drops_all_output() {
    let content = Arc::new(vec![b'x'; LARGE_BYTES]);
    let mut outbox = Outbox::default();
    outbox.begin_round(2 * LARGE_BYTES);
    let mut made = outbox.like();
    made.append_shared(&content, 0..LARGE_BYTES);
    outbox.append(made);
    assert!(!outbox.has_overflowed());
    let mut made = outbox.like();
    made.append_shared(&content, 0..LARGE_BYTES);
    made.append_shared(&content, 0..LARGE_BYTES);
    assert!(made.has_overflowed());
    outbox.append(made);
    assert!(outbox.has_overflowed() && outbox.sendable().is_empty());
    assert_eq!(Arc::strong_count(&content), 1);
}
