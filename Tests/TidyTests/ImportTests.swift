// STYLE.md, R3: the arrows of ARCHITECTURE.md, checked at the word `import`.

import Testing

@Suite("Imports (STYLE.md R3)")
struct ImportTests {
    /// What each target may import. MeshModel compiles regular expressions with regcomp(3).
    static let arrows: [String: Set<String>] = [
        "Programs": ["NodeAgent", "CLI"],
        "MeshModel": ["Glibc"],
        "MeshConfig": ["MeshModel", "Yams", "COpenSSL", "CLinux", "Foundation", "Glibc"],
        "BPFLoader": ["MeshModel", "CMallaABI", "CMallaObject", "CBPF", "CLinux", "Glibc"],
        "L7Engine": ["MeshModel", "COpenSSL", "CNghttp2", "CLinux", "Glibc", "Synchronization"],
        "Supervisor": ["CLinux", "Glibc", "Synchronization"],
        "AdminAPI": ["Foundation"],
        "NodeAgent": [
            "MeshModel", "MeshConfig", "BPFLoader", "L7Engine", "Supervisor", "AdminAPI", "CLinux",
            "ArgumentParser", "Logging", "NIOCore", "NIOPosix", "NIOHTTP1", "Foundation", "Glibc",
            "Synchronization", "Dispatch", "X509", "SwiftASN1", "NIOHTTP2",
            "NIOHPACK",
        ],
        "CLI": [
            "MeshModel", "MeshConfig", "AdminAPI", "CLinux", "ArgumentParser", "Logging", "NIOCore",
            "NIOPosix", "NIOHTTP1", "Foundation", "Glibc", "Synchronization", "Dispatch",
        ],
    ]

    @Test func `every target imports only what the arrows allow`() {
        var wrong: [Violation] = []
        for file in Repository.sources {
            let target = String(file.path.split(separator: "/")[1])
            guard let allowed = Self.arrows[target] else {
                wrong.append(
                    Violation(path: file.path, line: 1, remedy: "add \(target) to `arrows` here"))
                continue
            }
            for (line, module) in file.imports where !allowed.contains(module) {
                let remedy = "\(target) may not import \(module); the arrows are in ARCHITECTURE.md"
                wrong.append(Violation(path: file.path, line: line, remedy: remedy))
            }
        }
        expectNone(wrong)
    }

    @Test func `the engine and the datapath never see each other`() throws {
        let engine = try #require(Self.arrows["L7Engine"])
        let loader = try #require(Self.arrows["BPFLoader"])

        #expect(!engine.contains("BPFLoader"))
        #expect(!loader.contains("L7Engine"))
    }
}

extension SourceText {
    /// Line (from 1) and module of each import.
    var imports: [(line: Int, module: String)] {
        code.enumerated().compactMap { index, line in
            let words = line.split(separator: " ")
            guard let at = words.firstIndex(of: "import"), at <= 2, at + 1 < words.count else {
                return nil
            }
            let module = words[words.count - 1].split(separator: ".")[0]
            return (index + 1, String(module))
        }
    }
}
