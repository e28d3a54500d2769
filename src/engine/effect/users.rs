//! Effects on users, which belong to no database.

macro_rules! user_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Creates a user, or replaces one: `rules` are all rules of the user, in the words of ACL LIST.
        UserSet(46, Global) { name: &'a [u8] as UserName, rules: &'a [u8] as Rest } " {name} {rules}";

        /// Removes a user that exists.
        UserDelete(47, Global) { name: &'a [u8] as Rest } " {name}";

        /// Notes that the store has its own users, perhaps none: an ACL file adds none from now on.
        UsersOwned(48, Global) "";
        }
    };
}

use super::Effect;

impl Effect<'_> {
    /// True if the effect is about users.
    #[inline]
    pub fn is_of_users(&self) -> bool {
        matches!(self, Effect::UserSet { .. } | Effect::UserDelete { .. } | Effect::UsersOwned)
    }
}
