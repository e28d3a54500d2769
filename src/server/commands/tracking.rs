//! CLIENT TRACKING, CACHING, TRACKINGINFO and GETREDIR: client-side caching.

use super::Call;
use crate::tracking::{Caching, ClientTracking, Tracker, TrackingMode};
use engramdb_engine::command::{CommandError, OptionWords, Outcome, Reply};
use std::sync::atomic::Ordering;

/// The options of CLIENT TRACKING.
#[derive(Default)]
struct Options<'a> {
    redirect: u64,
    is_broadcast: bool,
    opts_in: bool,
    opts_out: bool,
    no_loop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn read(call: &Call<'_, '_, '_>, mut words: OptionWords<'a>) -> Result<Options<'a>, CommandError> {
        let mut options = Options::default();
        while !words.is_done() {
            if words.left() > 1 && words.take("REDIRECT") {
                if options.redirect != 0 {
                    return Err(CommandError::of("ERR A client can only redirect to a single other client"));
                }
                let id = u64::try_from(words.integer()?).unwrap_or(0);
                if call.shared.clients.get(id).is_none() {
                    return Err(CommandError::of("ERR The client ID you want redirect to does not exist"));
                }
                options.redirect = id;
            } else if words.take("BCAST") {
                options.is_broadcast = true;
            } else if words.take("OPTIN") {
                options.opts_in = true;
            } else if words.take("OPTOUT") {
                options.opts_out = true;
            } else if words.take("NOLOOP") {
                options.no_loop = true;
            } else if words.left() > 1 && words.take("PREFIX") {
                options.prefixes.push(words.word()?);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(options)
    }

    fn mode(&self) -> TrackingMode {
        match (self.is_broadcast, self.opts_in, self.opts_out) {
            (true, ..) => TrackingMode::Broadcast,
            (_, true, _) => TrackingMode::OptIn,
            (_, _, true) => TrackingMode::OptOut,
            _ => TrackingMode::All,
        }
    }

    /// What Redis refuses, in its order.
    fn check(&self, before: Option<&ClientTracking>) -> Outcome {
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return Err(CommandError::of("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if let Some(before) = before
            && (before.mode == TrackingMode::Broadcast) != self.is_broadcast
        {
            return Err(CommandError::of(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
        if self.is_broadcast && (self.opts_in || self.opts_out) {
            return Err(CommandError::of("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.opts_in && self.opts_out {
            return Err(CommandError::of("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        let switches = |from, to| before.is_some_and(|before| before.mode == from) && self.mode() == to;
        if switches(TrackingMode::OptIn, TrackingMode::OptOut)
            || switches(TrackingMode::OptOut, TrackingMode::OptIn)
        {
            return Err(CommandError::of(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then \
                 re-enabling it with a different mode.",
            ));
        }
        self.check_prefixes(before.map_or(&[], |before| &before.prefixes))
    }

    fn check_prefixes(&self, before: &[Box<[u8]>]) -> Outcome {
        let overlaps = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
        for (index, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = before.iter().find(|other| overlaps(prefix, other)) {
                return Err(overlap(prefix, b"' overlaps with an existing prefix '", other));
            }
            if let Some(other) = self.prefixes[index + 1..].iter().find(|other| overlaps(prefix, other)) {
                return Err(overlap(prefix, b"' overlaps with another provided prefix '", other));
            }
        }
        Ok(())
    }
}

fn overlap(prefix: &[u8], how: &[u8], other: &[u8]) -> CommandError {
    let rule = b"'. Prefixes for a single client must not overlap.";
    CommandError::of_parts(&[b"ERR Prefix '", prefix, how, other, rule])
}

pub fn track(call: &mut Call<'_, '_, '_>) -> Outcome {
    let options = Options::read(call, call.args.options(3))?;
    if call.args.is(2, "OFF") {
        end_tracking(call);
        call.reply.ok();
        return Ok(());
    }
    if !call.args.is(2, "ON") {
        return Err(CommandError::SYNTAX);
    }
    let before = call.session.tracking.take();
    if let Err(error) = options.check(before.as_deref()) {
        call.session.tracking = before;
        return Err(error);
    }
    let mut prefixes = before.map_or(Vec::new(), |before| before.prefixes);
    let mut new_prefixes = options.prefixes.clone();
    if options.is_broadcast && prefixes.is_empty() && new_prefixes.is_empty() {
        new_prefixes.push(b"");
    }
    prefixes.extend(new_prefixes.iter().map(|prefix| Box::from(*prefix)));
    prefixes.sort();
    let client = call.session.client.clone();
    call.session.open_mailbox();
    client.note_tracking(Some((options.redirect, options.is_broadcast)));
    let Options { redirect, no_loop, is_broadcast, .. } = options;
    let tracker = Tracker { client, redirect, no_loop, is_broadcast };
    call.shared.tracking.begin(call.shared.engine.notices(), tracker, &new_prefixes);
    call.session.tracking = Some(Box::new(ClientTracking {
        mode: options.mode(),
        no_loop,
        redirect,
        prefixes,
        caching: Caching::Unsaid,
    }));
    call.reply.ok();
    Ok(())
}

/// The client tracks no more: it has said so, or begins anew.
pub fn end_tracking(call: &mut Call<'_, '_, '_>) {
    if let Some(tracking) = call.session.tracking.take() {
        call.session.client.note_tracking(None);
        let id = call.session.client.id;
        call.shared.tracking.end(call.shared.engine.notices(), id, &tracking.prefixes);
    }
}

pub fn caching(call: &mut Call<'_, '_, '_>) -> Outcome {
    let word = call.args[2].to_ascii_lowercase();
    let tracking = call.session.tracking.as_mut().ok_or(CommandError::of(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
    ))?;
    tracking.caching = match (word.as_slice(), tracking.mode) {
        (b"yes", TrackingMode::OptIn) => Caching::Yes,
        (b"yes", _) => {
            let text = "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
            return Err(CommandError::of(text));
        }
        (b"no", TrackingMode::OptOut) => Caching::No,
        (b"no", _) => {
            let text = "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
            return Err(CommandError::of(text));
        }
        _ => return Err(CommandError::SYNTAX),
    };
    call.reply.ok();
    Ok(())
}

pub fn tracking_info(call: &mut Call<'_, '_, '_>) -> Outcome {
    let tracking = call.session.tracking.as_deref();
    let mut flags = Vec::new();
    match tracking {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            match tracking.mode {
                TrackingMode::All => {}
                TrackingMode::OptIn => flags.push("optin"),
                TrackingMode::OptOut => flags.push("optout"),
                TrackingMode::Broadcast => flags.push("bcast"),
            }
            match tracking.caching {
                Caching::Unsaid => {}
                Caching::Yes => flags.push("caching-yes"),
                Caching::No => flags.push("caching-no"),
            }
            flags.extend(tracking.no_loop.then_some("noloop"));
            let is_broken = call.session.client.is_redirect_broken.load(Ordering::Relaxed);
            flags.extend(is_broken.then_some("broken_redirect"));
        }
    }
    let reply = &mut *call.reply;
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(tracking.map_or(-1, |tracking| tracking.redirect as i64));
    reply.bulk(b"prefixes");
    let prefixes = tracking.map_or(&[][..], |tracking| &tracking.prefixes);
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

pub fn redirection(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.integer(call.session.tracking.as_ref().map_or(-1, |tracking| tracking.redirect as i64));
    Ok(())
}
