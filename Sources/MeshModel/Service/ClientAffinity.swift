// sessionAffinity: ClientIP where the engine chooses for a client that it does not remember: each
// client draws every endpoint, and the one with the highest number is his. All workers, and all
// nodes, find the same; who comes or goes takes only what was drawn by him, and nobody else moves.
//
// - Source: rendezvous hashing (Thaler and Ravishankar, 1998).

public enum ClientAffinity {
    /// What a client draws of an endpoint.
    @inlinable
    public static func draw(_ client: IPAddress, _ endpoint: SocketAddress) -> UInt64 {
        var drawn = mixed(client.high ^ mixed(client.low))
        drawn = mixed(drawn ^ mixed(endpoint.address.high) ^ endpoint.address.low)
        return mixed(drawn ^ UInt64(endpoint.port))
    }

    /// SplitMix64's finaliser.
    @inlinable
    static func mixed(_ value: UInt64) -> UInt64 {
        var mixed = value &+ 0x9e37_79b9_7f4a_7c15
        mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
        return mixed ^ mixed >> 31
    }
}
