//! The macro [`lenient!`](crate::adapter::lenient).

/// Declares structs of JSON in which a value that does not fit is absent, and the rest is read.
///
/// A field is called as in the JSON, or after `=` by other names of it. A member that occurs twice counts as the last
/// of the two that fits; a list has the elements of both. See [`adapter::json`](crate::adapter::json) for an example.
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
                careful: bool,
            ) -> ::std::result::Result<bool, M::Error> {
                while let Some(name) = members.next_key::<$crate::adapter::json::Name<$a>>()? {
                    let value = $crate::adapter::json::MemberValue::new(&mut members, careful);
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
