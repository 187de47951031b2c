//! The macro [`lenient!`](crate::adapter::lenient).

/// Declares structs for JSON in which a value that does not fit is absent and the rest is parsed.
///
/// A field has the name in the JSON, or lists alternative names after `=`. Its type is a [`Text`] (from strings and
/// numbers alike), a [`Piece`], a [`List`], `bool`, `f64`, another struct of this macro, or an `Option` or `Box` of
/// one; see [`Member`]. The struct borrows from the JSON, so it is declared with a lifetime, and is [`Default`]. If a
/// member occurs twice, the last value that fits is kept, and the elements of lists are joined. See
/// [`adapter::json`](crate::adapter::json) for an example.
///
/// [`List`]: crate::adapter::json::List
/// [`Member`]: crate::adapter::json::Member
/// [`Piece`]: crate::adapter::json::Piece
/// [`Text`]: crate::adapter::json::Text
#[macro_export]
#[doc(hidden)]
macro_rules! __lenient {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident<$a:lifetime> {
            $( $(#[$field_attribute:meta])* $field_visibility:vis $field:ident $(= $($json:literal)|+)?: $type:ty ),* $(,)?
        }
    )*) => {$(
        $(#[$attribute])*
        #[derive(Default)]
        $visibility struct $name<$a> {
            $( $(#[$field_attribute])* $field_visibility $field: $type, )*
            lifetime: ::std::marker::PhantomData<&$a ()>,
        }

        impl<$a> $crate::adapter::json::Member<$a> for $name<$a> {
            fn object<M: $crate::adapter::json::MapAccess<$a>>(
                &mut self,
                mut members: M,
                pass: $crate::adapter::json::Pass,
            ) -> ::std::result::Result<bool, M::Error> {
                while let Some(name) = members.next_key::<$crate::adapter::json::Name<$a>>()? {
                    let value = $crate::adapter::json::MemberValue::new(&mut members, pass);
                    match name.as_str() {
                        $( $crate::__lenient!(@name $field $($($json)|+)?) => value.read(&mut self.$field)?, )*
                        _ => value.skip()?,
                    }
                }
                Ok(true)
            }
        }
    )*};
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $($json:literal)|+) => { $($json)|+ };
}
