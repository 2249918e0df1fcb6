import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import NodeAgent

@Suite("Who is connected to the admin server (docs/operations.md, limits)")
struct AdminCrowdTests {
    private final class Ended: Sendable {
        private let all = Mutex<[Int]>([])
        var list: [Int] { all.withLock { $0 } }
        func add(_ one: Int) { all.withLock { $0.append(one) } }
    }

    private final class Opened: Sendable {
        let channel = Mutex<(any Channel)?>(nil)
    }

    private static func time(_ seconds: UInt64) -> UInt64 { seconds * 1_000_000_000 }

    private func full(_ ended: Ended) -> (AdminCrowd, [Int]) {
        let crowd = AdminCrowd()
        let numbers = (0..<AdminCrowd.connectionsMax).map { index in
            crowd.enter(at: Self.time(UInt64(index))) { ended.add(index) }
        }
        return (crowd, numbers)
    }

    @Test func `one more ends the one that was used longest ago`() {
        let ended = Ended()
        let (crowd, numbers) = full(ended)
        crowd.use(numbers[0], isBusy: false, at: Self.time(50))

        _ = crowd.enter(at: Self.time(60)) {}

        #expect(ended.list == [1])
        #expect(crowd.count == AdminCrowd.connectionsMax)
        #expect(crowd.ended.limit == 1)
    }

    @Test func `who waits for an answer is ended last`() {
        let ended = Ended()
        let (crowd, numbers) = full(ended)
        for number in numbers.dropLast() { crowd.use(number, isBusy: true, at: Self.time(0)) }

        for _ in 0..<3 {
            crowd.use(crowd.enter(at: Self.time(60)) {}, isBusy: true, at: Self.time(60))
        }

        #expect(ended.list.first == AdminCrowd.connectionsMax - 1)
        #expect(ended.list.count == 3)
    }

    @Test func `who asks nothing for five minutes is ended, who follows events is not`() {
        let ended = Ended()
        let (crowd, numbers) = full(ended)
        crowd.use(numbers[3], isBusy: true, at: Self.time(3))
        crowd.leave(numbers[0])

        crowd.endIdle(at: Self.time(302))

        #expect(ended.list.sorted() == [1, 2])
        crowd.endIdle(at: Self.time(900))
        #expect(crowd.count == 1)
        #expect(crowd.ended.idle == UInt64(AdminCrowd.connectionsMax - 2))
    }

    @Test func `a connection that ends before it is active leaves its place`() throws {
        let crowd = AdminCrowd()
        let opened = Opened()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let bootstrap = ClientBootstrap(group: group).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(AdminGuest(crowd, channel))
                opened.channel.withLock { $0 = channel }
            }
        }

        // Nobody listens there.
        #expect(throws: (any Error).self) {
            try bootstrap.connect(unixDomainSocketPath: "/nonexistent/socket").wait()
        }

        let channel = try #require(opened.channel.withLock { $0 })
        try channel.closeFuture.wait()
        #expect(crowd.count == 0)
    }
}
