import MeshModel
import Testing

@testable import L7Engine

@Suite("The first bytes say what a client speaks")
struct FirstBytesTests {
    private func judge(_ bytes: [UInt8]) -> FirstBytes.Verdict {
        var bytes = bytes
        // Safe: the pointer does not leave the closure.
        return unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return .undecided }
            return unsafe FirstBytes.judge(
                Bytes(base, count: buffer.count), 0, buffer.count, targetBytesMax: 16384)
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\n", "GET ", "POST /a", "DELETE *", "BREW /pot HTTP/1.1\r\n",
        "M-SEARCH * HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\nGET /", "\r\n\n \tGET /",
        "get /admin", "Get\t/", "GET\r\n", "OPTIONS * ", "CONNECT a:443 ", "foo /a http/1.0",
    ])
    func `HTTP, and what a lenient server might take for it`(text: String) {
        #expect(judge(Array(text.utf8)) == .http)
    }

    @Test(arguments: ["", "G", "GE", "GET", "BREW", "BREW /", "BREW /pot HT", "\r\n", "*1"])
    func `not sure yet`(text: String) {
        #expect(judge(Array(text.utf8)) == .undecided)
    }

    @Test(arguments: [
        "*1\r\n$4\r\nPING\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "EHLO mail.example\r\n",
        "AMQP\0\0\u{9}\u{1}",
        "INVITE sip:a SIP/2.0\r\n", "set a 0 0 1\r\n", "PING\r\n", "stats\r\n", "{\"id\":1}",
        "\u{16}\u{3}\u{1}\u{2}", "\0\0\0\u{8}\u{4}\u{d2}\u{16}\u{2f}", "BREW  /pot HTTP/1.1\r\n",
        String(repeating: "a", count: 33),
    ])
    func `anything else`(text: String) {
        #expect(judge(Array(text.utf8)) == .other)
    }

    @Test func `a first line without end is HTTP's to refuse`() {
        #expect(judge(Array("BREW /".utf8) + Array(repeating: 0x61, count: 16384)) == .http)
    }

    @Test func `piece by piece nothing is decided otherwise`() {
        for text in [
            "GET / HTTP/1.1\r\n", "BREW /pot HTTP/1.1\r\n", "SSH-2.0-x\r\n", "set a 0\r\n",
        ] {
            let bytes = Array(text.utf8)
            let last = judge(bytes)
            for count in 0..<bytes.count {
                let early = judge(Array(bytes[..<count]))
                #expect(early == .undecided || early == last, "\(text) after \(count)")
            }
        }
    }
}
