//! Pushes from a client's mailbox into its outbox.

use crate::dispatch::execute::Core;
use crate::output::{Posted, Replies};

impl Core {
    /// Appends what is in the mailbox to the replies so far. Each push has its own gate, and delays no
    /// reply in front of it. A client that wants no replies gets its pushes all the same, as in Redis.
    #[cold]
    pub(super) fn append_mail(&mut self) {
        let Some(mailbox) = &self.session.mailbox else { return };
        // A push's gate would become that of a reply in front of it that has none yet.
        assert!(self.outbox.is_sealed(), "pushes are appended between replies");
        let style = self.session.style();
        for Posted { push, gate } in mailbox.take() {
            self.begin_round();
            push.write(&mut Replies::new(&mut self.outbox, style));
            self.seal(gate);
        }
    }
}
