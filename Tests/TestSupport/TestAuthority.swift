// Certificates for tests, made by the program openssl: our own code would hide its own mistakes.

public import Foundation

/// A certificate authority in a directory of its own.
public struct TestAuthority {
    /// A chain and its key, in PEM.
    public struct Pair {
        public var chain: [UInt8]
        public var key: [UInt8]
    }

    public enum Key: String, Sendable, CaseIterable {
        case ecdsa = "ec -pkeyopt ec_paramgen_curve:P-256"
        case p384 = "ec -pkeyopt ec_paramgen_curve:P-384"
        case p521 = "ec -pkeyopt ec_paramgen_curve:P-521"
        case rsa = "rsa:2048"
        case rsaPSS = "rsa-pss -pkeyopt rsa_keygen_bits:2048"
        case ed25519 = "ed25519"
        case ed448 = "ed448"
    }

    public let directory: URL
    /// Its own certificate.
    public var file: String { directory.appendingPathComponent("ca.crt").path }
    public var bundle: [UInt8] { bytes("ca.crt") }

    /// What it is called where a test does not care.
    public static let standardName = "test-ca"

    public init(_ name: String = standardName) throws {
        directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("malla-ca-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        try run(
            """
            openssl req -x509 -newkey \(Key.ecdsa.rawValue) -nodes -keyout ca.key -out ca.crt \
              -subj /CN=\(name) -days 2 -addext keyUsage=critical,keyCertSign,cRLSign
            """)
    }

    public func remove() { try? FileManager.default.removeItem(at: directory) }

    /// Makes a directory of it for agents (`--ca`), so that the test can sign as they do.
    public func place(at path: String) throws {
        try Command.shell(
            """
            mkdir -m 700 \(path)
            cp \(directory.path)/ca.crt \(directory.path)/ca.key \(path)/
            chmod 600 \(path)/*
            """)
    }

    /// A certificate for `names` (`DNS:…`, `URI:…`, `IP:…`, with commas). An expired one was valid
    /// in the first days of 2020; one with a `life` runs out so many seconds from now.
    public func issue(
        _ names: String, key: Key = .ecdsa, isExpired: Bool = false, life: Int? = nil
    ) throws -> Pair {
        let stem = UUID().uuidString
        let end =
            life.map { "$(date -u -d '+\($0) seconds' +%Y%m%d%H%M%SZ)" }
            ?? (isExpired ? "20200102000000Z" : "20700101000000Z")
        // `openssl x509` knows no dates of the past; `openssl ca` does, and wants a few files.
        try run(
            """
            openssl req -newkey \(key.rawValue) -nodes -keyout \(stem).key -out \(stem).csr \
              -subj /CN=leaf
            : > \(stem).db
            cat > \(stem).cnf <<END
            [ca]
            default_ca = own
            [own]
            database = \(stem).db
            new_certs_dir = .
            default_md = sha256
            policy = any
            unique_subject = no
            rand_serial = yes
            x509_extensions = leaf
            [any]
            commonName = supplied
            [leaf]
            subjectAltName = \(names)
            extendedKeyUsage = serverAuth,clientAuth
            basicConstraints = critical,CA:FALSE
            END
            openssl ca -batch -config \(stem).cnf -cert ca.crt -keyfile ca.key -in \(stem).csr \
              -out \(stem).crt -notext -startdate 20200101000000Z -enddate \(end)
            """)
        return Pair(chain: bytes("\(stem).crt"), key: bytes("\(stem).key"))
    }

    /// A revocation list (PEM) that names a certificate, valid between two moments as openssl
    /// writes them (`20200101000000Z`).
    public func list(
        naming pair: Pair, from begin: String = "20200101000000Z",
        to end: String = "20690101000000Z"
    ) throws -> [UInt8] {
        let stem = UUID().uuidString
        let named = try write(pair, stem).chain
        try run(
            """
            : > \(stem).db; echo 01 > \(stem).number
            printf '[ca]\\ndefault_ca=o\\n[o]\\ndatabase=%s.db\\ncrlnumber=%s.number\\n%s\\n' \
              \(stem) \(stem) default_md=sha256 > \(stem).cnf
            openssl ca -config \(stem).cnf -cert ca.crt -keyfile ca.key -revoke \(named)
            openssl ca -config \(stem).cnf -cert ca.crt -keyfile ca.key -gencrl \
              -crl_lastupdate \(begin) -crl_nextupdate \(end) -out \(stem).crl
            """)
        return bytes("\(stem).crl")
    }

    /// Writes a pair into the directory and answers the paths.
    public func write(_ pair: Pair, _ stem: String) throws -> (chain: String, key: String) {
        let chain = directory.appendingPathComponent(stem + ".crt")
        let key = directory.appendingPathComponent(stem + ".key")
        try Data(pair.chain).write(to: chain)
        try Data(pair.key).write(to: key)
        return (chain.path, key.path)
    }

    /// A Secret of type kubernetes.io/tls.
    public static func secret(_ name: String, in namespace: String, _ pair: Pair) -> String {
        """
        apiVersion: v1
        kind: Secret
        metadata: {name: \(name), namespace: \(namespace)}
        type: kubernetes.io/tls
        data:
          tls.crt: \(Data(pair.chain).base64EncodedString())
          tls.key: \(Data(pair.key).base64EncodedString())

        """
    }

    private func bytes(_ name: String) -> [UInt8] {
        [UInt8]((try? Data(contentsOf: directory.appendingPathComponent(name))) ?? Data())
    }

    private func run(_ script: String) throws {
        try Command.shell("cd \(directory.path)\nexec 2>&1\n" + script)
    }
}
