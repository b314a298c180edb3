use super::*;
use crate::spdy::Blocks;

/// All that goes on raw, and the channels.
fn read(codec: &mut Codec, from: Sender, bytes: &[u8], size: usize) -> (Vec<u8>, Vec<(Channel, Vec<u8>)>) {
    let (mut raw, mut channels): (Vec<u8>, Vec<(Channel, Vec<u8>)>) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        codec
            .push(from, piece, &mut |part| match part {
                Part::Raw(bytes) => raw.extend_from_slice(bytes),
                Part::Data(channel, data) => match channels.last_mut() {
                    Some((last, text)) if *last == channel => text.extend_from_slice(data),
                    _ => channels.push((channel, data.to_vec())),
                },
                Part::End(_) | Part::Port(_) => {}
            })
            .unwrap();
    }
    (raw, channels)
}

fn server_messages(base64: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (channel, text) in [(1, &b""[..]), (1, b"some output"), (2, b"an error"), (3, b"{\"status\":\"Success\"}")] {
        if base64 {
            frames::write(1, &[&[b'0' + channel], STANDARD.encode(text).as_bytes()], &mut bytes);
        } else {
            frames::write(2, &[&[channel], text], &mut bytes);
        }
    }
    frames::write(9, &[b"ping"], &mut bytes);
    bytes
}

#[test]
fn what_nobody_touches_goes_on_byte_for_byte() {
    for base64 in [false, true] {
        let bytes = server_messages(base64);
        for size in [1, 2, 5, bytes.len()] {
            let mut codec = Codec::new(Protocol::WebSocket { base64 }, false, None);
            let (raw, channels) = read(&mut codec, Sender::Server, &bytes, size);
            assert_eq!(raw, bytes);
            assert_eq!(channels[0], (Channel::Stdout, b"some output".to_vec()));
            assert_eq!(channels[2], (Channel::Error, b"{\"status\":\"Success\"}".to_vec()));
            assert!(codec.at_rest());
        }
    }
}

#[test]
fn output_is_taken_out_and_the_rest_goes_on() {
    for base64 in [false, true] {
        let bytes = server_messages(base64);
        for size in [1, 3, bytes.len()] {
            let mut codec = Codec::new(Protocol::WebSocket { base64 }, true, None);
            let (raw, channels) = read(&mut codec, Sender::Server, &bytes, size);
            assert!(!raw.windows(4).any(|w| w == b"some") && raw.windows(4).any(|w| w == b"ping"), "{raw:?}");
            assert_eq!(channels[0], (Channel::Stdout, b"some output".to_vec()));
            let mut again = Vec::new();
            codec.write(Channel::Stdout, b"other", &mut again);
            let (_, channels) = read(&mut Codec::new(Protocol::WebSocket { base64 }, false, None), Sender::Server, &again, 1);
            assert_eq!(channels, [(Channel::Stdout, b"other".to_vec())]);
        }
    }
}

#[test]
fn a_message_in_pieces_has_its_channel_in_the_first() {
    // stdout in three frames with a ping between them; the first is empty.
    let bytes = [&[0x02, 0][..], &[0x00, 3, 1, b'a', b'b'], &[0x89, 0], &[0x80, 2, b'c', b'd']].concat();
    for (interpose, expected) in [(false, bytes.clone()), (true, vec![0x89, 0])] {
        for size in [1, 2, bytes.len()] {
            let (raw, channels) =
                read(&mut Codec::new(Protocol::WebSocket { base64: false }, interpose, None), Sender::Server, &bytes, size);
            assert_eq!((raw, channels), (expected.clone(), vec![(Channel::Stdout, b"abcd".to_vec())]));
        }
    }
}

#[test]
fn a_ping_in_a_tunnel_is_no_data_however_it_is_cut() {
    let (mut server, mut spdy) = (Vec::new(), Vec::new());
    spdy::go_away(&mut spdy);
    frames::write(9, &[b"ping"], &mut server);
    frames::write(2, &[&spdy], &mut server);
    for size in [1, 2, 3, server.len()] {
        let mut codec = Codec::new(Protocol::Tunnel, false, None);
        assert_eq!(read(&mut codec, Sender::Server, &server, size).0, server, "pieces of {size}");
    }
}

#[test]
fn spdy_output_is_taken_out_by_its_stream() {
    let (mut client, mut server, mut replies) = (Vec::new(), Vec::new(), Blocks::default());
    let mut blocks = Blocks::default();
    for (id, name) in [(1, "error"), (3, "stdout"), (5, "stderr")] {
        blocks.open(id, &[("streamtype", name)], &mut client);
        replies.reply(id, &mut server);
    }
    let replies = server.len();
    spdy::data(3, b"some output", false, &mut server);
    spdy::data(3, b"", true, &mut server);
    spdy::data(1, b"{}", true, &mut server);
    for (interpose, expected) in [(false, server.clone()), (true, server[..replies].to_vec())] {
        let mut codec = Codec::new(Protocol::Spdy, interpose, None);
        assert_eq!(read(&mut codec, Sender::Client, &client, 3).0, client);
        let (raw, channels) = read(&mut codec, Sender::Server, &server, 3);
        assert_eq!(raw, expected);
        assert_eq!(channels, [(Channel::Stdout, b"some output".to_vec()), (Channel::Error, b"{}".to_vec())]);
        let mut out = Vec::new();
        codec.write(Channel::Stdout, b"hidden", &mut out);
        assert_eq!(out, [&[0, 0, 0, 3, 0, 0, 0, 6][..], b"hidden"].concat());
    }
}

#[test]
fn the_protocol_is_what_the_answer_says() {
    let agreed = |upgrade: &'static str, protocol: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, http::HeaderValue::from_static(upgrade));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, http::HeaderValue::from_static(protocol));
        Protocol::agreed(&headers)
    };
    assert_eq!(agreed("SPDY/3.1", ""), Some(Protocol::Spdy));
    assert_eq!(agreed("WebSocket", "v5.channel.k8s.io"), Some(Protocol::WebSocket { base64: false }));
    assert_eq!(agreed("websocket", "v4.base64.channel.k8s.io"), Some(Protocol::WebSocket { base64: true }));
    assert_eq!(agreed("websocket", "SPDY/3.1+portforward.k8s.io"), Some(Protocol::Tunnel));
    assert_eq!(agreed("websocket", "v6.channel.k8s.io"), None);
    assert_eq!(agreed("h2c", ""), None);
}

proptest::proptest! {
    #[test]
    fn what_goes_on_raw_is_what_came(pieces in proptest::collection::vec((0u8..6, proptest::collection::vec(0u8..=255, 0..50), proptest::bool::ANY), 0..10), size in 1usize..60) {
        // Messages in one or two frames, of every channel.
        let mut bytes = Vec::new();
        for (channel, text, split) in pieces {
            let payload = [&[channel][..], &text].concat();
            let mut whole = Vec::new();
            frames::write(2, &[&payload], &mut whole);
            if split {
                whole[0] &= 0x7F;
                frames::write(0, &[&text], &mut whole);
            }
            bytes.extend(whole);
        }
        let (raw, _) = read(&mut Codec::new(Protocol::WebSocket { base64: false }, false, None), Sender::Server, &bytes, size);
        proptest::prop_assert_eq!(raw, bytes);
    }

    #[test]
    fn nothing_a_peer_sends_panics(noise in proptest::collection::vec(0u8..=255, 0..200), size in 1usize..60, kind in 0usize..4, interpose: bool, client: bool) {
        let protocol = [Protocol::Spdy, Protocol::Tunnel, Protocol::WebSocket { base64: false }, Protocol::WebSocket { base64: true }][kind];
        let mut codec = Codec::new(protocol, interpose, None);
        let from = if client { Sender::Client } else { Sender::Server };
        for piece in noise.chunks(size) {
            if codec.push(from, piece, &mut |_| {}).is_err() {
                break;
            }
        }
    }
}
