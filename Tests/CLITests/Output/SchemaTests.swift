import AdminAPI
import Foundation
import Testing

@testable import CLI

/// `-o json` is a contract: Fixtures/fields.txt lists the fields of every kind. A field that is
/// gone or has another name fails; a new one is added to the list in the same change.
@Suite("Fields of JSON are only ever added")
struct SchemaTests {
    @Test func `every kind has exactly the fields of the list`() throws {
        let documents = try [
            Output.json(Sample.status), Output.json(Sample.endpoints), Output.json(Sample.services),
            Output.json(Sample.routes), Output.json(Sample.serviceRows),
            Output.json(Sample.bpfStats),
            Output.json(Sample.flows), Output.json(Sample.ipcache),
            Output.json(Sample.policyRows), Output.json(Sample.flowFlush),
            Output.json(Sample.accounts),
            Output.json(Sample.diagnostics), Output.json(Sample.checks),
            Output.json(Sample.versions), Output.json(Sample.policies),
            Output.json(Sample.policyTrace), Output.json(Sample.flowEvents),
            Output.json(Sample.certificates), Output.json(Sample.mutualTLS),
        ]
        let found = try documents.flatMap { try Self.fields(of: $0) }.sorted()
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Fixtures/fields.txt")
        let listed = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            .map(String.init).filter { !$0.hasPrefix("#") }.sorted()
        #expect(Set(listed).subtracting(found) == [], "fields that are gone")
        let added = Set(found).subtracting(listed).sorted().joined(separator: "\n")
        #expect(added == "", "add these to Fixtures/fields.txt")
    }

    @Test func `a listing survives its own JSON`() throws {
        let text = try Output.json(Sample.services)
        let back = try JSONDecoder().decode(Listing<ServiceItem>.self, from: Data(text.utf8))
        #expect(back == Sample.services)
    }

    @Test func `what an older agent does not say is none`() throws {
        let certificate = """
            {"type": "workload", "identity": "a", "serial": "", "issuer": "", "notBefore": "",
             "notAfter": "", "remainingSeconds": 1, "renewAt": "", "state": "valid", "message": "",
             "pods": [], "gateways": ["b"], "revocationLists": 0, "pem": ""}
            """
        #expect(
            try JSONDecoder().decode(CertificateItem.self, from: Data(certificate.utf8))
                == CertificateItem(
                    type: "workload", identity: "a", remainingSeconds: 1, state: "valid",
                    gateways: ["b"]))
        let account = """
            {"namespace": "a", "workload": "b", "cpuMilliseconds": 0.5, "requests": 1,
             "receivedBytes": 2, "sentBytes": 3, "connections": 4, "bufferBytes": 5, "shed": 6}
            """
        #expect(
            try JSONDecoder().decode(AccountItem.self, from: Data(account.utf8))
                == AccountItem(
                    namespace: "a", workload: "b", cpuMilliseconds: 0.5, requests: 1,
                    receivedBytes: 2, sentBytes: 3, connections: 4, bufferBytes: 5, shed: 6))
    }

    @Test func `a field that this version does not know is passed over`() throws {
        let text = try Output.json(Sample.versions)
            .replacingOccurrences(of: "\"component\"", with: "\"colour\" : 1, \"component\"")
        let back = try JSONDecoder().decode(Listing<VersionItem>.self, from: Data(text.utf8))
        #expect(back == Sample.versions)
    }

    /// `StatusList items[].config.directory string`, one for each leaf and each list.
    private static func fields(of document: String) throws -> [String] {
        let value = try JSONSerialization.jsonObject(with: Data(document.utf8))
        let top = try #require(value as? [String: Any])
        let kind = try #require(top["kind"] as? String)
        var paths: Set<String> = []
        walk(top, "", into: &paths)
        return paths.map { "\(kind) \($0)" }
    }

    private static func walk(_ value: Any, _ path: String, into paths: inout Set<String>) {
        if let object = value as? [String: Any] {
            for (name, field) in object {
                walk(field, path.isEmpty ? name : "\(path).\(name)", into: &paths)
            }
        } else if let list = value as? [Any] {
            for item in list { walk(item, path + "[]", into: &paths) }
            if list.isEmpty { paths.insert(path + "[]") }
        } else if value is String {
            paths.insert("\(path) string")
        } else {
            // JSON has no other leaves here; the decoder tells numbers from true and false.
            paths.insert("\(path) number or boolean")
        }
    }
}
