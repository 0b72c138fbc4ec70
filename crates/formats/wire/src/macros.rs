//! The macro that turns a message's table of fields into a struct and its codec.

/// Declares one message: its struct, its type number and name, and both ways of the codec, from one
/// table of fields in the order of the specification.
///
/// A field is read and written by its own type's codec, or by the one named after `as`. Records of the
/// TLV stream are fields too; those that the table does not know are refused when even and dropped
/// when odd (BOLT 1).
macro_rules! message {
    (
        $(#[$meta:meta])*
        $name:ident = $type_id:literal, $label:literal {
            $( $(#[$field_meta:meta])* $field:ident : $ty:ty $(as $codec:ty)? , )*
        }
        tlvs {
            $( $(#[$tlv_meta:meta])* $kind:literal $tlv:ident : $tlv_ty:ty $(as $tlv_codec:ty)? , )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
            $( $(#[$tlv_meta])* pub $tlv: $tlv_ty, )*
        }

        impl $crate::MessageType for $name {
            const TYPE: u16 = $type_id;
            const NAME: &'static str = $label;
        }

        impl fulmen_types::codec::Encode for $name {
            #[inline]
            fn encode(&self, out: &mut alloc::vec::Vec<u8>) {
                let mut gathered = $crate::codec::Gathered::new();
                $(
                    gathered.put::<$ty, $crate::macros::codec_of!($($codec)?)>(&self.$field, out);
                )*
                gathered.flush(out);
                #[allow(unused_mut, unused_variables)]
                let mut tlvs = fulmen_types::codec::TlvWriter::new(out);
                $(
                    <$crate::macros::codec_of!($($tlv_codec)?) as $crate::codec::TlvCodec<$tlv_ty>>::put_record(
                        &self.$tlv, $kind, &mut tlvs,
                    );
                )*
            }
        }

        impl $name {
            /// Reads the message, and names the field that breaks its format.
            #[inline]
            pub(crate) fn read(
                r: &mut fulmen_types::codec::Reader<'_>,
            ) -> Result<Self, $crate::error::FieldError> {
                use $crate::error::in_field;
                $(
                    let $field = <$crate::macros::codec_of!($($codec)?)
                        as $crate::codec::FieldCodec<$ty>>::get(r)
                        .map_err(in_field(stringify!($field)))?;
                )*
                $( let mut $tlv = <$tlv_ty>::default(); )*
                for record in fulmen_types::codec::TlvReader::new(r.take_rest()) {
                    let record = record.map_err(in_field("extension"))?;
                    match record.kind {
                        $(
                            $kind => <$crate::macros::codec_of!($($tlv_codec)?)
                                as $crate::codec::TlvCodec<$tlv_ty>>::get_record(&mut $tlv, &record)
                                .map_err(in_field(stringify!($tlv)))?,
                        )*
                        _ => record.ignore_if_odd().map_err(in_field("extension"))?,
                    }
                }
                Ok(Self { $($field,)* $($tlv,)* })
            }
        }

        impl fulmen_types::codec::Decode for $name {
            fn decode(
                r: &mut fulmen_types::codec::Reader<'_>,
            ) -> Result<Self, fulmen_types::codec::DecodeError> {
                Self::read(r).map_err(|e| e.error)
            }
        }

        #[cfg(test)]
        impl $crate::tests::Table for $name {
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];
            const TLVS: &'static [(u64, &'static str)] = &[$(($kind, stringify!($tlv))),*];
        }

        #[cfg(test)]
        impl $crate::tests::Generate for $name {
            fn generate(g: &mut $crate::tests::Source<'_>) -> Self {
                Self {
                    $( $field: $crate::tests::Generate::generate(g), )*
                    $( $tlv: $crate::tests::Generate::generate(g), )*
                }
            }
        }
    };
}

/// The codec named in a table, or the one of the type itself.
macro_rules! codec_of {
    () => {
        $crate::codec::Own
    };
    ($codec:ty) => {
        $codec
    };
}

pub(crate) use {codec_of, message};
