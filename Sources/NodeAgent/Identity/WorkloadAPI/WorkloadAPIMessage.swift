internal import L7Engine
internal import MeshModel
internal import SwiftASN1
internal import X509

/// What the Workload API says of the caller: X509SVIDResponse, judged.
///
/// - Source: SPIFFE Workload API, workloadapi.proto; X509-SVID, section 5 for what is refused.
struct WorkloadAPIMessage {
    private(set) var svids: [X509SVID] = []
    private(set) var bundles: [TrustBundle] = []

    /// - Parameter bytes: the caller's to wipe; nothing here keeps any of them but certificates.
    init(_ bytes: [UInt8]) throws(SVIDFailure) {
        do {
            try read(bytes)
        } catch let failure as SVIDFailure {
            throw failure
        } catch is ProtobufReader.Malformed {
            throw SVIDFailure(.invalid, "the Workload API sent a message that cannot be read")
        } catch {
            throw SVIDFailure(.invalid, "the Workload API sent \(error)")
        }
    }

    /// The identities that a message names, be they usable or not; `nil`: it cannot be read.
    static func names(in bytes: [UInt8]) -> Set<String>? {
        var names: Set<String> = []
        var reader = ProtobufReader(bytes[...])
        do throws(ProtobufReader.Malformed) {
            while let (number, field) = try reader.next() {
                guard number == 1, case .bytes(let value) = field else { continue }
                var svid = ProtobufReader(value)
                while let (part, name) = try svid.next() {
                    guard part == 1, case .bytes(let text) = name else { continue }
                    names.insert(String(decoding: text, as: UTF8.self))
                }
            }
        } catch {
            return nil
        }
        return names
    }

    /// Leaves no others than these.
    mutating func keep(_ names: Set<String>) {
        svids.removeAll { !names.contains($0.id.description) }
    }

    private mutating func read(_ bytes: [UInt8]) throws {
        var roots: [TrustDomain: [[UInt8]]] = [:]
        var lists: [[UInt8]] = []
        var reader = ProtobufReader(bytes[...])
        while let (number, field) = try reader.next() {
            guard case .bytes(let value) = field else { continue }
            switch number {
            case 1:
                let (svid, bundle) = try Self.svid(value)
                // Of several for one identity the first is the one that is meant.
                if !svids.contains(where: { $0.id == svid.id }) { svids.append(svid) }
                roots[svid.id.trustDomain] = bundle
            case 2:
                guard TrustBundle.judge(list: Array(value), by: []) != .unreadable else {
                    throw SVIDFailure(
                        .invalid, "the Workload API sent a revocation list that cannot be read")
                }
                lists.append(Array(value))
            case 3:
                let (domain, bundle) = try Self.federated(value)
                if roots[domain] == nil { roots[domain] = bundle }
            default: break
            }
        }
        guard !svids.isEmpty else {
            throw SVIDFailure(.missing, "the Workload API has no identity for this agent")
        }
        let anchors = roots.mapValues(SVIDCertificate.certificates)
        svids = svids.map { $0.ending(below: anchors[$0.id.trustDomain] ?? []) }
        bundles = roots.sorted { $0.key < $1.key }.map {
            // Lists are not told apart by domain; one counts for whoever has signed it only.
            TrustBundle(trustDomain: $0.key, roots: $0.value, revocations: lists)
        }
    }

    private static func svid(_ bytes: ArraySlice<UInt8>) throws -> (X509SVID, [[UInt8]]) {
        var (name, chain, key, bundle) = ("", [UInt8](), [UInt8](), [UInt8]())
        defer { Secret.wipe(&key) }
        var reader = ProtobufReader(bytes)
        while let (number, field) = try reader.next() {
            guard case .bytes(let value) = field else { continue }
            switch number {
            case 1: name = String(decoding: value, as: UTF8.self)
            case 2: chain = Array(value)
            case 3:
                Secret.wipe(&key)
                key = Array(value)
            case 4: bundle = Array(value)
            default: break
            }
        }
        let secret: SigningKey
        do {
            secret = try SigningKey.take(&key)
        } catch {
            throw SVIDFailure(.invalid, "the key for \(name) cannot be read: \(error)")
        }
        let certificates = try split(chain, "the certificates for \(name)")
        let leaf = try X509.Certificate(der: certificates[0])
        let id = try SVIDCertificate.identity(of: leaf)
        guard id.description == name else {
            throw SVIDFailure(.invalid, "the Workload API calls \(name) what is for \(id)")
        }
        guard secret.matches(certificate: certificates[0]) else {
            throw SVIDFailure(.mismatch, "the key for \(id) does not belong to its certificate")
        }
        let svid = X509SVID(
            id: id, chain: certificates, key: secret, notBefore: leaf.notBeforeSeconds,
            notAfter: leaf.notAfterSeconds)
        return (svid, try split(bundle, "the bundle of \(id.trustDomain)"))
    }

    /// An entry of `federated_bundles`: a trust domain's ID and its bundle.
    private static func federated(_ bytes: ArraySlice<UInt8>) throws -> (TrustDomain, [[UInt8]]) {
        var (name, bundle) = ("", [UInt8]())
        var reader = ProtobufReader(bytes)
        while let (number, field) = try reader.next() {
            guard case .bytes(let value) = field else { continue }
            if number == 1 { name = String(decoding: value, as: UTF8.self) }
            if number == 2 { bundle = Array(value) }
        }
        do {
            let domain = try SPIFFEID(name).trustDomain
            return (domain, try split(bundle, "the bundle of \(domain)"))
        } catch let error as SPIFFEIDError {
            throw SVIDFailure(.invalid, "a federated bundle is named '\(name)', which \(error)")
        }
    }

    /// DER values that stand one behind another.
    static func split(_ bytes: [UInt8], _ what: String) throws(SVIDFailure) -> [[UInt8]] {
        var parts: [[UInt8]] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let count = length(rest), count <= rest.count else {
                throw SVIDFailure(.invalid, "\(what) cannot be read")
            }
            parts.append(Array(rest.prefix(count)))
            rest = rest.dropFirst(count)
        }
        guard !parts.isEmpty else { throw SVIDFailure(.invalid, "\(what) are none") }
        return parts
    }

    /// Of a SEQUENCE in DER, with its head.
    private static func length(_ bytes: ArraySlice<UInt8>) -> Int? {
        let head = Array(bytes.prefix(6))
        guard head.count >= 2, head[0] == 0x30 else { return nil }
        if head[1] < 0x80 { return 2 + Int(head[1]) }
        let count = Int(head[1] & 0x7f)
        guard (1...4).contains(count), head.count >= 2 + count else { return nil }
        return 2 + count + head[2..<2 + count].reduce(0) { $0 << 8 | Int($1) }
    }
}
