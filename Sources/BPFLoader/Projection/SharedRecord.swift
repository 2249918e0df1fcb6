// The ABI's structs as keys and values of Swift collections: equal when every field is.

internal import CMallaABI
internal import MeshModel

extension malla_address: @retroactive Hashable {
    init(_ address: IPAddress) {
        self.init(
            words_be: (
                address.word(0).bigEndian, address.word(1).bigEndian, address.word(2).bigEndian,
                address.word(3).bigEndian
            ))
    }

    static func == (left: Self, right: Self) -> Bool { left.words_be == right.words_be }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(words_be.0)
        hasher.combine(words_be.1)
        hasher.combine(words_be.2)
        hasher.combine(words_be.3)
    }
}

extension malla_address {
    /// The address as a value again.
    var value: IPAddress {
        func half(_ high: UInt32, _ low: UInt32) -> UInt64 {
            UInt64(UInt32(bigEndian: high)) << 32 | UInt64(UInt32(bigEndian: low))
        }
        return IPAddress(
            high: half(words_be.0, words_be.1), low: half(words_be.2, words_be.3))
    }
}

extension malla_end {
    var socket: SocketAddress { SocketAddress(address.value, UInt16(bigEndian: port_be)) }
}

extension malla_end: @retroactive Hashable {
    init(_ end: SocketAddress, _ transport: TransportProtocol) {
        self.init(
            address: malla_address(end.address), port_be: end.port.bigEndian,
            protocol: transport.number, pad: 0)
    }

    static func == (left: Self, right: Self) -> Bool {
        left.address == right.address && left.port_be == right.port_be
            && left.protocol == right.protocol
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(address)
        hasher.combine(port_be)
        hasher.combine(self.protocol)
    }
}

extension malla_service: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.inside == right.inside && left.outside == right.outside && left.flags == right.flags
            && left.affinity_seconds == right.affinity_seconds
    }
}

extension malla_group: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.id == right.id && left.endpoints == right.endpoints
            && left.positions == right.positions
    }
}

extension malla_node: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.source4 == right.source4 && left.source6 == right.source6
            && left.flags == right.flags
    }
}

extension malla_range: @retroactive Hashable {
    init(_ range: AddressRange, service: UInt32) {
        self.init(
            prefix_bits: 32 + UInt32(range.prefixBits), service: service,
            address: malla_address(range.address))
    }

    static func == (left: Self, right: Self) -> Bool {
        left.prefix_bits == right.prefix_bits && left.service == right.service
            && left.address == right.address
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(prefix_bits)
        hasher.combine(service)
        hasher.combine(address)
    }
}

extension malla_pod: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.interface == right.interface && left.flags == right.flags
            && left.identity == right.identity && left.set == right.set
            && left.endpoint == right.endpoint && left.netns == right.netns
    }
}

extension malla_prefix: @retroactive Hashable {
    static func == (left: Self, right: Self) -> Bool {
        left.prefix_bits == right.prefix_bits && left.address == right.address
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(prefix_bits)
        hasher.combine(address)
    }
}

extension malla_exclude: @retroactive Hashable {
    static func == (left: Self, right: Self) -> Bool {
        left.prefix_bits == right.prefix_bits && left.endpoint == right.endpoint
            && left.port_be == right.port_be && left.is_inbound == right.is_inbound
            && left.address == right.address
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(prefix_bits)
        hasher.combine(endpoint)
        hasher.combine(port_be)
        hasher.combine(is_inbound)
        hasher.combine(address)
    }
}

extension malla_mode_key: @retroactive Hashable {
    static func == (left: Self, right: Self) -> Bool {
        left.endpoint == right.endpoint && left.port_be == right.port_be
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(endpoint)
        hasher.combine(port_be)
    }
}

extension malla_device: @retroactive Hashable {
    static func == (left: Self, right: Self) -> Bool {
        left.namespace_cookie == right.namespace_cookie && left.index == right.index
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(namespace_cookie)
        hasher.combine(index)
    }
}

extension malla_identity: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.identity == right.identity && left.flags == right.flags
    }
}

extension malla_policy_key: @retroactive Hashable {
    static func == (left: Self, right: Self) -> Bool {
        left.prefix_bits == right.prefix_bits && left.set_be == right.set_be
            && left.identity_be == right.identity_be && left.direction == right.direction
            && left.protocol == right.protocol && left.port_be == right.port_be
    }

    var hashValue: Int { hashed(self) }

    func hash(into hasher: inout Hasher) {
        hasher.combine(prefix_bits)
        hasher.combine(set_be)
        hasher.combine(identity_be)
        hasher.combine(direction)
        hasher.combine(self.protocol)
        hasher.combine(port_be)
    }
}

extension malla_policy: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.rule == right.rule && left.verdict == right.verdict && left.flags == right.flags
    }
}

extension malla_set: @retroactive Equatable {
    static func == (left: Self, right: Self) -> Bool {
        left.verdicts == right.verdicts && left.flags == right.flags
            && left.policies == right.policies
    }
}

/// Written out, because the compiler would make `hashValue` public, which an internal import
/// forbids.
private func hashed(_ value: some Hashable) -> Int {
    var hasher = Hasher()
    value.hash(into: &hasher)
    return hasher.finalize()
}
