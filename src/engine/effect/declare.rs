//! Generates code from the rows of effects.
//!
//! Each family's macro passes its rows to the next one; this is the last. A row is
//!
//! ```text
//! /// A description.
//! Name(number, scope, BUILDS) { field: type as kind, ... } "how the fields are shown";
//! ```
//!
//! where `BUILDS` and the fields can be left out. Numbers are part of the format and are never reused; the
//! fields are encoded in the order of their declaration, the key first.

macro_rules! declare_effects {
    ([] $(
        $(#[$doc:meta])*
        $name:ident($number:literal, $scope:ident $(, $builds:ident)?)
            $({ $($field:ident: $type:ty as $kind:ident),* $(,)? })? $shown:literal;
    )*) => {
        /// A change of one database (or of all, where the scope is Global).
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Effect<'a> {
            $( $(#[$doc])* $name $({ $($field: $type),* })?, )*
            /// A module's change of the value of a key, or of its own state in this database.
            Module { module: u8, version: u8, kind: u8, key: Option<&'a [u8]>, payload: &'a [u8] },
        }

        impl<'a> Effect<'a> {
            /// The key that the effect changes (the first of two).
            #[inline]
            pub fn key(&self) -> Option<&'a [u8]> {
                match *self {
                    $( Effect::$name $({ $($field),* })? => None$($(.or(<$kind as FieldKind<'a>>::key($field)))*)?, )*
                    Effect::Module { key, .. } => key,
                }
            }

            /// The same effect on another key. An effect without a key is unchanged.
            pub fn with_key(&self, new: &'a [u8]) -> Effect<'a> {
                match *self {
                    $( Effect::$name $({ $($field),* })? => {
                        Effect::$name $({ $($field: <$kind as FieldKind<'a>>::under($field, new)),* })?
                    } )*
                    Effect::Module { module, version, kind, key, payload } => {
                        Effect::Module { module, version, kind, key: key.map(|_| new), payload }
                    }
                }
            }

            pub fn scope(&self) -> Scope {
                match *self {
                    $( Effect::$name { .. } => Scope::$scope, )*
                    Effect::Module { key, .. } => modules::scope_of(key),
                }
            }

            /// True if a snapshot can contain it for a key: it builds a value, or a part of one, if the key
            /// is absent.
            pub fn builds(&self) -> bool {
                match *self {
                    $( Effect::$name { .. } => false $(|| $builds)?, )*
                    Effect::Module { key, .. } => key.is_some(),
                }
            }

            /// The kind in the encoding.
            #[inline]
            fn number(&self) -> u8 {
                match *self {
                    $( Effect::$name { .. } => $number, )*
                    Effect::Module { kind, .. } => kind,
                }
            }

            /// Encodes the fields, which follow the header.
            #[inline]
            fn put_fields(&self, out: &mut impl Sink) {
                match *self {
                    $( Effect::$name $({ $($field),* })? => {
                        $($( <$kind as FieldKind<'a>>::put($field, out); )*)?
                    } )*
                    Effect::Module { key, payload, .. } => modules::put(out, key, payload),
                }
            }

            /// True if the engine has an effect of this number.
            fn is_known(number: u8) -> bool {
                [$($number),*].contains(&number)
            }

            /// Decodes the fields of an effect of the engine. `None` if they do not fit its number.
            fn take_fields(number: u8, reader: &mut Reader<'a>) -> Option<Effect<'a>> {
                Some(match number {
                    $( $number => {
                        Effect::$name $({ $($field: <$kind as FieldKind<'a>>::take(reader)?),* })?
                    } )*
                    _ => return None,
                })
            }
        }

        /// For people (`engramdb log dump`) and golden scripts: the kind, the key, then other fields.
        impl fmt::Display for Effect<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $( Effect::$name $({ $($field),* })? => {
                        $($( let $field = <$kind as FieldKind<'_>>::shown($field); )*)?
                        f.write_str(stringify!($name))?;
                        write!(f, $shown)
                    } )*
                    Effect::Module { module, kind, key, payload, .. } => {
                        modules::show(f, (module, kind), key, payload)
                    }
                }
            }
        }
    };
}
