import Dispatch
import Foundation
import MeshModel
import Synchronization
import TestSupport
import Testing

@testable import NodeAgent

@Suite("Nodes that share a directory share its authority")
struct AuthorityFilesTests {
    @Test func `of many that start together all read one authority`() throws {
        for _ in 0..<8 {
            let directory = try AuthorityDirectory()
            let path = directory.path + "/shared"
            let outcomes = Mutex<[String]>([])
            DispatchQueue.concurrentPerform(iterations: 8) { _ in
                let files = AuthorityFiles(directory: path, trustDomain: .standard)
                do {
                    _ = try files.make(at: AuthorityDirectory.now)
                    let serial = try files.read().certificate.serialText
                    outcomes.withLock { $0.append(serial) }
                } catch {
                    outcomes.withLock { $0.append("\(error)") }
                }
            }
            let seen = outcomes.withLock { $0 }
            #expect(seen.count == 8)
            #expect(Set(seen).count == 1, "\(seen)")
            // Nothing is left behind.
            #expect(try directory.shell("ls -A shared") == "ca.crt\nca.key\n")
        }
    }

    @Test func `who dies between key and certificate is healed by the next`() throws {
        let directory = try AuthorityDirectory()
        _ = try directory.files.make(at: AuthorityDirectory.now)
        let before = try directory.shell("openssl pkey -in ca.key -pubout; rm ca.crt")
        #expect(try directory.files.make(at: AuthorityDirectory.now))
        #expect(try directory.shell("openssl x509 -in ca.crt -noout -pubkey") == before)
    }

    @Test func `an operator's key without its certificate is not signed for`() throws {
        let directory = try AuthorityDirectory()
        try directory.shell("openssl genpkey -algorithm ed25519 -out ca.key")
        #expect {
            try directory.files.make(at: AuthorityDirectory.now)
        } throws: { ($0 as? SVIDFailure)?.message.contains("ca.crt is missing") == true }
        #expect(try directory.shell("ls") == "ca.key\n")
    }

    @Test func `an operator's certificate without its key is not replaced`() throws {
        let directory = try AuthorityDirectory()
        try directory.shell(
            """
            openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca -days 2
            rm ca.key
            """)
        #expect(try !directory.files.make(at: AuthorityDirectory.now))
        #expect { try directory.files.read() } throws: {
            ($0 as? SVIDFailure)?.reason == .unreadable
        }
    }

    @Test func `a key that others may read is told of`() throws {
        let directory = try AuthorityDirectory()
        var source = directory.source()
        _ = try source.bundles(at: AuthorityDirectory.now)
        #expect(source.warnings == [])
        try directory.shell("chmod 644 ca.key")
        #expect(source.warnings.count == 1)
    }

    static let wrong: [(String, String, String)] = [
        ("no authority", "-addext basicConstraints=critical,CA:FALSE", "CA:TRUE"),
        ("may not sign", "-addext keyUsage=critical,digitalSignature", "keyCertSign"),
        (
            "another trust domain", "-addext subjectAltName=URI:spiffe://example.org",
            "example.org"
        ),
    ]

    @Test(arguments: wrong) func `what is no authority for this node is refused with its reason`(
        _ rule: String, _ options: String, _ words: String
    ) throws {
        let directory = try AuthorityDirectory()
        try directory.shell(
            """
            openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.crt -subj /CN=ca \
              -days 2 \(options)
            """)
        #expect { try directory.files.read() } throws: {
            ($0 as? SVIDFailure)?.message.contains(words) == true
        }
    }
}
