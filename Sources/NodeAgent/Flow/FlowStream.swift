internal import AdminAPI
internal import Foundation
internal import NIOCore
internal import NIOHTTP1

/// One connection that follows flow events: a line of JSON each, until it is closed.
///
/// - Threads: the connection's event loop. Who reads too slowly loses events, and is told how many.
final class FlowStream {
    private let history: FlowHistory
    private let node: String
    private let context: ChannelHandlerContext
    private var follower: Int?
    private var missed = 0

    /// Writes the head and the past. `nil`: too many follow already, and nothing was written.
    init?(
        _ question: FlowQuestion, _ flows: FlowReader, _ context: ChannelHandlerContext,
        _ version: HTTPVersion
    ) {
        history = flows.history
        node = flows.node
        self.context = context
        let loop = context.eventLoop
        let bound = NIOLoopBoundBox<FlowStream?>(nil, eventLoop: loop)
        guard
            let started = history.follow(
                question,
                { items in loop.execute { bound.value?.deliver(items) } })
        else { return nil }
        follower = started.follower
        let head = HTTPResponseHead(
            version: version, status: .ok,
            headers: [
                "content-type": "application/x-ndjson", "cache-control": "no-store",
                "connection": "close",
            ])
        context.write(NIOAny(HTTPServerResponsePart.head(head)), promise: nil)
        bound.value = self
        write(started.past)
    }

    func end() {
        if let follower { history.unfollow(follower) }
        follower = nil
    }

    private func deliver(_ items: [FlowEventItem]) {
        guard follower != nil, context.channel.isActive else { return end() }
        guard context.channel.isWritable else {
            missed += items.count
            return
        }
        let lost = missed > 0 ? [FlowReader.lost(missed, "follower", node: node)] : []
        missed = 0
        write(lost + items)
    }

    private func write(_ items: [FlowEventItem]) {
        var bytes = context.channel.allocator.buffer(capacity: items.count * 512)
        for item in items { bytes.writeBytes(FlowHistory.line(item)) }
        // Also with nothing in it: the head goes out at once.
        let part = HTTPServerResponsePart.body(.byteBuffer(bytes))
        context.writeAndFlush(NIOAny(part), promise: nil)
    }
}

extension FlowHistory {
    /// The events as the listing of AdminAPI.
    func answer(_ question: FlowQuestion) -> AdminAnswer {
        let listing = AdminAPI.flowEvents.listing(last(question))
        guard let bytes = try? Self.encoder.encode(listing) else {
            return .text(500, "the listing cannot be written\n")
        }
        return .json(Array(bytes) + [UInt8(ascii: "\n")])
    }

    /// One event as a line of JSON.
    static func line(_ item: FlowEventItem) -> [UInt8] {
        // Strings and numbers can always be written.
        guard let bytes = try? encoder.encode(item) else { return [] }
        return Array(bytes) + [UInt8(ascii: "\n")]
    }

    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }
}
