//! Elements of a request, counted while its bytes come in and before they are decoded: two bytes on the wire may become a message of
//! some hundred in memory.
//!
//! ```text
//! tag of a field ─▶ its length ─┬─▶ a message that may hold elements: its fields, in the same way
//!                               └─▶ anything else: passed over
//! ```
//!
//! Where the walk loses its way the request is refused: what it passes over unseen must not be decoded.

use tonic::Status;

/// Messages, entries, topics, subscriptions and addresses of a request at most: clients send one message, or one batch of receipts.
const ELEMENTS_MAX: usize = 1_024;
/// User properties and keys of all messages of a request at most.
const PROPERTIES_MAX: usize = 16_384;
/// Of a number in Protocol Buffers' encoding.
const VARINT_BYTES_MAX: u32 = 10;

/// A message of the protocol, as far as elements may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Without elements, or nothing of this protocol.
    Plain,
    SendMessage,
    AckMessage,
    SyncLiteSubscription,
    QueryRoute,
    QueryAssignment,
    QueryOffset,
    /// ReceiveMessage, PullMessage, UpdateOffset and GetOffset.
    OfQueue,
    Telemetry,
    Settings,
    RetryPolicy,
    CustomizedBackoff,
    Publishing,
    Subscription,
    Metric,
    RecoverOrphanedTransaction,
    VerifyMessage,
    Message,
    SystemProperties,
    MessageQueue,
    Broker,
    Endpoints,
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    One(Shape),
    /// One of many.
    Element(Shape),
    /// One of the many properties or keys of a message.
    Property,
    /// Small numbers: each byte may be one.
    Numbers,
}

impl Shape {
    /// The request of a call.
    pub(crate) fn of_path(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("SendMessage") => Self::SendMessage,
            Some("AckMessage") => Self::AckMessage,
            Some("SyncLiteSubscription") => Self::SyncLiteSubscription,
            Some("QueryRoute") => Self::QueryRoute,
            Some("QueryAssignment") => Self::QueryAssignment,
            Some("QueryOffset") => Self::QueryOffset,
            Some("ReceiveMessage" | "PullMessage" | "UpdateOffset" | "GetOffset") => Self::OfQueue,
            Some("Telemetry") => Self::Telemetry,
            _ => Self::Plain,
        }
    }

    /// A field by its number in service.proto or definition.proto.
    fn field(self, number: u32) -> Field {
        match (self, number) {
            (Self::SendMessage, 1) => Field::Element(Self::Message),
            (Self::AckMessage, 3)
            | (Self::SyncLiteSubscription, 4)
            | (Self::CustomizedBackoff | Self::Publishing, 1)
            | (Self::Subscription | Self::Endpoints, 2) => Field::Element(Self::Plain),
            (Self::Message | Self::SystemProperties, 2) => Field::Property,
            (Self::MessageQueue, 5) => Field::Numbers,
            (Self::RecoverOrphanedTransaction, 1) | (Self::VerifyMessage, 2) => Field::One(Self::Message),
            (Self::Message, 3) => Field::One(Self::SystemProperties),
            (Self::OfQueue, 2) | (Self::QueryOffset, 1) => Field::One(Self::MessageQueue),
            (Self::MessageQueue, 4) => Field::One(Self::Broker),
            (Self::QueryRoute | Self::Settings | Self::Metric, 2) | (Self::QueryAssignment | Self::Broker, 3) => {
                Field::One(Self::Endpoints)
            }
            (Self::Telemetry, 2) => Field::One(Self::Settings),
            (Self::Telemetry, 5) => Field::One(Self::RecoverOrphanedTransaction),
            (Self::Telemetry, 7) => Field::One(Self::VerifyMessage),
            (Self::Settings, 3) => Field::One(Self::RetryPolicy),
            (Self::RetryPolicy, 3) => Field::One(Self::CustomizedBackoff),
            (Self::Settings, 5) => Field::One(Self::Publishing),
            (Self::Settings, 6) => Field::One(Self::Subscription),
            (Self::Settings, 8) => Field::One(Self::Metric),
            _ => Field::One(Self::Plain),
        }
    }
}

/// What the next number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Tag,
    Value,
    LengthOf(Field),
}

/// A walk through one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Bytes that were read or passed over.
    position: usize,
    /// The messages around this position, the innermost last, with the positions at which they end. At most as deep as the shapes are.
    around: Vec<(Shape, usize)>,
    /// Bytes from this position on that are passed over.
    passing: usize,
    next: Next,
    /// Of a number: what was read of it.
    number: u64,
    number_bytes: u32,
    elements: usize,
    properties: usize,
}

impl Walk {
    /// Begins before the first byte of a request with this length in bytes.
    pub(crate) fn new(shape: Shape, length: usize) -> Self {
        let mut walk = Self {
            position: 0,
            around: Vec::new(),
            passing: 0,
            next: Next::Tag,
            number: 0,
            number_bytes: 0,
            elements: 0,
            properties: 0,
        };
        walk.enter(shape, length);
        walk
    }

    /// Goes on through these bytes, which lie within the request.
    ///
    /// # Errors
    /// There are too many elements, or the request is none of the protocol.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while let [byte, rest @ ..] = bytes {
            if self.passing > 0 {
                let now = self.passing.min(bytes.len());
                (self.passing, self.position) = (self.passing - now, self.position + now);
                bytes = &bytes[now..];
            } else {
                self.position += 1;
                bytes = rest;
                if let Some(number) = self.read_number(*byte)? {
                    self.read_field(number)?;
                }
            }
            self.leave()?;
        }
        Ok(())
    }

    /// Gives the number when this is its last byte.
    fn read_number(&mut self, byte: u8) -> Result<Option<u64>, Status> {
        self.number |= u64::from(byte & 0x7f) << (7 * self.number_bytes);
        self.number_bytes += 1;
        // Of the last byte only one bit fits.
        if self.number_bytes == VARINT_BYTES_MAX && byte > 1 {
            return Err(self.lost("a number has more than 64 bits"));
        }
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        self.number_bytes = 0;
        Ok(Some(std::mem::take(&mut self.number)))
    }

    fn read_field(&mut self, number: u64) -> Result<(), Status> {
        match self.next {
            Next::Tag => self.read_tag(number),
            Next::Value => {
                self.next = Next::Tag;
                Ok(())
            }
            Next::LengthOf(field) => {
                self.next = Next::Tag;
                let length = self.within(number)?;
                match field {
                    Field::One(shape) => self.enter(shape, length),
                    Field::Element(shape) => {
                        self.count_elements(1)?;
                        self.enter(shape, length);
                    }
                    Field::Property => {
                        self.count_property()?;
                        self.enter(Shape::Plain, length);
                    }
                    Field::Numbers => {
                        self.count_elements(length)?;
                        self.enter(Shape::Plain, length);
                    }
                }
                Ok(())
            }
        }
    }

    /// A tag is the field's number and three bits that say how its value is written.
    fn read_tag(&mut self, tag: u64) -> Result<(), Status> {
        let number = u32::try_from(tag).unwrap_or(0) >> 3;
        if number == 0 {
            return Err(self.lost("there is no such field"));
        }
        let field = self.around.last().map_or(Field::One(Shape::Plain), |(shape, _)| shape.field(number));
        match tag & 7 {
            0 => {
                self.next = Next::Value;
                if field == Field::Numbers {
                    self.count_elements(1)?;
                }
            }
            1 => self.passing = self.within(8)?,
            2 => self.next = Next::LengthOf(field),
            5 => self.passing = self.within(4)?,
            // Groups, which this version of Protocol Buffers has not.
            _ => return Err(self.lost("a value is written in no known way")),
        }
        Ok(())
    }

    /// A length that stays within the message around it.
    fn within(&self, length: u64) -> Result<usize, Status> {
        let left = self.around.last().map_or(0, |(_, end)| end - self.position);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > left {
            return Err(self.lost(&format!("a value of {length} bytes, where {left} are left")));
        }
        Ok(length)
    }

    fn enter(&mut self, shape: Shape, length: usize) {
        match shape {
            Shape::Plain => self.passing = length,
            shape => self.around.push((shape, self.position + length)),
        }
    }

    /// Leaves the messages that end here.
    fn leave(&mut self) -> Result<(), Status> {
        while self.around.last().is_some_and(|(_, end)| *end == self.position) {
            if self.next != Next::Tag || self.number_bytes > 0 {
                return Err(self.lost("a message ends in the midst of a field"));
            }
            self.around.pop();
        }
        Ok(())
    }

    fn count_elements(&mut self, count: usize) -> Result<(), Status> {
        self.elements = self.elements.saturating_add(count);
        let what = "messages, entries, topics, subscriptions or addresses";
        refuse_more_than(ELEMENTS_MAX, self.elements, what)
    }

    fn count_property(&mut self) -> Result<(), Status> {
        self.properties += 1;
        refuse_more_than(PROPERTIES_MAX, self.properties, "properties and keys")
    }

    fn lost(&self, why: &str) -> Status {
        let sentence = format!("the request is none of the protocol: {why}, before byte {}", self.position);
        Status::invalid_argument(sentence)
    }
}

fn refuse_more_than(limit: usize, found: usize, what: &str) -> Result<(), Status> {
    if found > limit {
        let sentence = format!("the request has too many {what}: expected at most {limit}, found {found} or more");
        return Err(Status::invalid_argument(sentence));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tonic::{Code, Status};

    use super::*;
    use crate::proto::settings::PubSub;
    use crate::proto::telemetry_command::Command;
    use crate::proto::*;

    /// How a walk ends, which must not depend on how the bytes come.
    fn walk(shape: Shape, bytes: &[u8]) -> Result<(), (Code, String)> {
        let in_frames_of = |size: usize| -> Result<(), Status> {
            let mut walk = Walk::new(shape, bytes.len());
            bytes.chunks(size).try_for_each(|frame| walk.read(frame))?;
            assert_eq!((walk.position, walk.around.len(), walk.passing), (bytes.len(), 0, 0), "it is read to its end");
            Ok(())
        };
        let ended = |size| in_frames_of(size).map_err(|status| (status.code(), status.message().to_owned()));
        let whole = ended(bytes.len().max(1));
        for size in [1, 2, 3, 7, 1_000] {
            assert_eq!(ended(size), whole, "in frames of {size} bytes");
        }
        whole
    }

    fn endpoints(addresses: usize) -> Endpoints {
        Endpoints { addresses: vec![Address::default(); addresses], ..Endpoints::default() }
    }

    fn telemetry(settings: Settings) -> (Shape, Vec<u8>) {
        let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        (Shape::Telemetry, command.encode_to_vec())
    }

    /// Requests with so many elements, in each place where elements may be.
    fn requests(count: usize) -> Vec<(Shape, Vec<u8>)> {
        let queue = || {
            let broker = Broker { endpoints: Some(endpoints(count)), ..Broker::default() };
            Some(MessageQueue { broker: Some(broker), ..MessageQueue::default() })
        };
        let publishing = Publishing { topics: vec![Resource::default(); count], ..Publishing::default() };
        let subscriptions = vec![SubscriptionEntry::default(); count];
        let subscription = Subscription { subscriptions, ..Subscription::default() };
        let customized = CustomizedBackoff { next: vec![prost_types::Duration::default(); count] };
        let strategy = Some(retry_policy::Strategy::CustomizedBackoff(customized));
        let metric = Metric { endpoints: Some(endpoints(count)), ..Metric::default() };
        vec![
            (Shape::SendMessage, SendMessageRequest { messages: vec![Message::default(); count] }.encode_to_vec()),
            (
                Shape::AckMessage,
                AckMessageRequest { entries: vec![AckMessageEntry::default(); count], ..Default::default() }
                    .encode_to_vec(),
            ),
            (
                Shape::SyncLiteSubscription,
                SyncLiteSubscriptionRequest { lite_topic_set: vec![String::new(); count], ..Default::default() }
                    .encode_to_vec(),
            ),
            (
                Shape::QueryRoute,
                QueryRouteRequest { endpoints: Some(endpoints(count)), ..Default::default() }.encode_to_vec(),
            ),
            (
                Shape::QueryAssignment,
                QueryAssignmentRequest { endpoints: Some(endpoints(count)), ..Default::default() }.encode_to_vec(),
            ),
            (Shape::QueryOffset, QueryOffsetRequest { message_queue: queue(), ..Default::default() }.encode_to_vec()),
            (Shape::OfQueue, ReceiveMessageRequest { message_queue: queue(), ..Default::default() }.encode_to_vec()),
            (
                Shape::OfQueue,
                GetOffsetRequest {
                    message_queue: Some(MessageQueue { accept_message_types: vec![1; count], ..Default::default() }),
                    ..Default::default()
                }
                .encode_to_vec(),
            ),
            telemetry(Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() }),
            telemetry(Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() }),
            telemetry(Settings { access_point: Some(endpoints(count)), ..Settings::default() }),
            telemetry(Settings { metric: Some(metric), ..Settings::default() }),
            telemetry(Settings {
                backoff_policy: Some(RetryPolicy { strategy, ..RetryPolicy::default() }),
                ..Settings::default()
            }),
        ]
    }

    #[test]
    fn elements_are_counted_wherever_they_are() {
        for (shape, bytes) in requests(ELEMENTS_MAX) {
            assert_eq!(walk(shape, &bytes), Ok(()), "{shape:?}");
        }
        for (shape, bytes) in requests(ELEMENTS_MAX + 1) {
            let (code, sentence) = walk(shape, &bytes).unwrap_err();
            assert_eq!(code, Code::InvalidArgument, "{shape:?}");
            assert!(sentence.contains("expected at most 1024, found 1025"), "{sentence}");
        }
        // Not packed: tag and number by turns.
        let mut queue = [0x28_u8, 1].repeat(ELEMENTS_MAX + 1);
        assert!(walk(Shape::MessageQueue, &queue).is_err());
        queue.truncate(2 * ELEMENTS_MAX);
        assert_eq!(walk(Shape::MessageQueue, &queue), Ok(()));
    }

    #[test]
    fn properties_and_keys_of_all_messages_count_together() {
        let request = |keys: usize, properties: usize| {
            let system = SystemProperties { keys: vec![String::new(); keys], ..SystemProperties::default() };
            let message = Message { system_properties: Some(system), ..Message::default() };
            let user_properties = (0..properties).map(|at| (at.to_string(), String::new())).collect();
            let other = Message { user_properties, ..Message::default() };
            let messages = SendMessageRequest { messages: vec![message.clone(), other.clone()] }.encode_to_vec();
            let recover = RecoverOrphanedTransactionCommand { message: Some(message), ..Default::default() };
            let verify = VerifyMessageCommand { message: Some(other), ..Default::default() };
            let command = |command| TelemetryCommand { status: None, command: Some(command) }.encode_to_vec();
            let recover = command(Command::RecoverOrphanedTransactionCommand(recover));
            (messages, recover, command(Command::VerifyMessageCommand(verify)))
        };
        let half = PROPERTIES_MAX / 2;
        assert_eq!(walk(Shape::SendMessage, &request(half, half).0), Ok(()));
        let (messages, ..) = request(half, half + 1);
        assert!(walk(Shape::SendMessage, &messages).unwrap_err().1.contains("properties and keys"));
        let (_, recover, verify) = request(PROPERTIES_MAX + 1, PROPERTIES_MAX + 1);
        for bytes in [recover, verify] {
            assert!(walk(Shape::Telemetry, &bytes).unwrap_err().1.contains("properties and keys"));
        }
    }

    #[test]
    fn a_request_that_lies_about_its_lengths_is_refused() {
        let many = [0x12_u8, 0].repeat(PROPERTIES_MAX);
        let hidden_in_group = [&[0x7b][..], &many[..], &[0x7c][..]].concat();
        for (bytes, why) in [
            // A message of two bytes with system properties of many more.
            ([&[0x0a, 2, 0x1a, 0x7f][..], &many[..]].concat(), "a value of 127 bytes, where 0 are left"),
            (vec![0x0a, 3, 0x1a, 0x80, 0x80, 0x01], "in the midst of a field"),
            (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "where 0 are left"),
            (vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], "more than 64 bits"),
            (vec![0xff; 11], "more than 64 bits"),
            (vec![0x80, 0x80, 0x80, 0x80, 0x90, 0x01, 0], "no such field"),
            (vec![0x02, 0], "no such field"),
            (vec![0x0a], "in the midst of a field"),
            (vec![0x08], "in the midst of a field"),
            (vec![0x09, 1, 2, 3], "a value of 8 bytes, where 3 are left"),
            (vec![0x0d, 1, 2, 3], "a value of 4 bytes, where 3 are left"),
            (hidden_in_group, "in no known way"),
        ] {
            let (code, sentence) = walk(Shape::SendMessage, &bytes).unwrap_err();
            assert_eq!(code, Code::InvalidArgument);
            assert!(sentence.contains(why), "{sentence}, expected {why}");
        }
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let bytes = [0x78, 0xff, 0x01, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7d, 1, 2, 3, 4, 0x7a, 2, 0xff, 0xff, 0x0a, 0];
        assert_eq!(walk(Shape::SendMessage, &bytes), Ok(()));
        assert!(SendMessageRequest::decode(&bytes[..]).is_ok_and(|request| request.messages.len() == 1));
        assert_eq!(walk(Shape::Plain, &[0xff; 20]), Ok(()), "nothing of the protocol");
        assert_eq!(Shape::of_path("/apache.rocketmq.v2.MessagingService/Heartbeat"), Shape::Plain);
    }
}
