//! Bytes from a peer: frames and messages must be refused or survive a round
//! trip, whatever they are.

#![no_main]

use bytes::BytesMut;
use isolazi_protocol::{Frame, Greeting, Hello, Request, ServerMessage, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = Frame::take(&mut buffer) {
        let mut again = BytesMut::new();
        frame.put(&mut again).expect("what was taken can be put");
        assert_eq!(Frame::take(&mut again).expect("it is whole"), Some(frame));
    }
    round_trip::<Hello>(data);
    round_trip::<Greeting>(data);
    round_trip::<Request>(data);
    round_trip::<ServerMessage>(data);
});

fn round_trip<T>(data: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    if let Ok(message) = decode::<T>(data) {
        let bytes = encode(&message).expect("what was decoded can be encoded");
        assert_eq!(decode::<T>(&bytes).expect("and decoded again"), message);
    }
}
