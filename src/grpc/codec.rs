//! The codec of all messages: a message that can't be decoded is INVALID_REQUEST, not INTERNAL.

use std::marker::PhantomData;

use bytes::Buf;
use prost::{Message, Name};
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    convert::size,
    error::{Error, FieldError, Reason},
    threads,
};

/// Encodes `T` and decodes `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Encodes `T`, into room for all of it: a large page would else be copied as the buffer grows.
#[derive(Debug)]
pub struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode_raw(buffer);
        Ok(())
    }
}

/// Decodes `U`.
#[derive(Debug)]
pub struct MessageDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Responses, which our own clients decode, are as large as they are.
        let is_request = U::NAME.ends_with("Request");
        if is_request && !size::is_allowed::<U>(buffer.chunk()) {
            return Err(Error::new(Reason::MessageTooLarge).into());
        }
        let bytes = buffer.remaining();
        // prost's own text names types of ours and bytes of theirs; a fixed sentence is enough.
        threads::run_heavy(bytes, || U::decode(buffer)).map(Some).map_err(|_| {
            Error::invalid(
                "",
                FieldError::Format,
                "is not a valid message for this method: malformed bytes, invalid UTF-8, or nesting too deep",
            )
            .into()
        })
    }
}
