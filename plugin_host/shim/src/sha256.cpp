#include "sha256.h"

#include <cstring>

#if defined(__x86_64__) && !defined(AUDIOSR_PORTABLE)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace audiosr {
namespace {

constexpr uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t rotated(uint32_t x, int n) { return x >> n | x << (32 - n); }

// The compression function, FIPS 180-4 §6.2.2, over whole blocks.
void compress_portably(uint32_t state[8], const uint8_t* data, size_t num_blocks) {
    for (; num_blocks; --num_blocks, data += Sha256::kBlockBytes) {
        uint32_t w[64];
        for (int i = 0; i < 16; ++i) {
            w[i] = uint32_t(data[4 * i]) << 24 | uint32_t(data[4 * i + 1]) << 16 |
                   uint32_t(data[4 * i + 2]) << 8 | data[4 * i + 3];
        }
        for (int i = 16; i < 64; ++i) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) +
                   (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; ++i) {
            uint32_t t1 = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                          (g ^ (e & (f ^ g))) + kRound[i] + w[i];
            uint32_t t2 = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) +
                          ((a & b) | (c & (a | b)));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if defined(__x86_64__) && !defined(AUDIOSR_PORTABLE)

// The same by the processor's own instructions, which hold the state as ABEF and CDGH.
__attribute__((target("sha,sse4.1"))) void compress_natively(uint32_t state[8],
                                                             const uint8_t* data,
                                                             size_t num_blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef = _mm_set_epi32(state[0], state[1], state[4], state[5]);
    __m128i cdgh = _mm_set_epi32(state[2], state[3], state[6], state[7]);
    for (; num_blocks; --num_blocks, data += Sha256::kBlockBytes) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[16];  // four words each
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            if (i < 4) {
                const auto* at = reinterpret_cast<const __m128i*>(data) + i;
                w[i] = _mm_shuffle_epi8(_mm_loadu_si128(at), big_endian);
            } else {
                __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[i - 4], w[i - 3]),
                                            _mm_alignr_epi8(w[i - 1], w[i - 2], 4));
                w[i] = _mm_sha256msg2_epu32(sum, w[i - 1]);
            }
            const auto* rounds = reinterpret_cast<const __m128i*>(kRound) + i;
            const __m128i x = _mm_add_epi32(w[i], _mm_loadu_si128(rounds));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, x);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(x, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    state[0] = _mm_extract_epi32(abef, 3), state[1] = _mm_extract_epi32(abef, 2);
    state[4] = _mm_extract_epi32(abef, 1), state[5] = _mm_extract_epi32(abef, 0);
    state[2] = _mm_extract_epi32(cdgh, 3), state[3] = _mm_extract_epi32(cdgh, 2);
    state[6] = _mm_extract_epi32(cdgh, 1), state[7] = _mm_extract_epi32(cdgh, 0);
}

bool has_instructions() {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29 &&  // SHA
           __get_cpuid(1, &a, &b, &c, &d) && c & 1u << 19;             // SSE4.1
}

const auto compress = has_instructions() ? compress_natively : compress_portably;

#else

const auto compress = compress_portably;

#endif

}  // namespace

void Sha256::add(const void* data, size_t size) {
    if (!size) {
        return;
    }
    const auto* bytes = static_cast<const uint8_t*>(data);
    const size_t filled = size_ % kBlockBytes;
    size_ += size;
    if (filled) {
        const size_t more = size < kBlockBytes - filled ? size : kBlockBytes - filled;
        std::memcpy(block_ + filled, bytes, more);
        bytes += more, size -= more;
        if (filled + more < kBlockBytes) {
            return;
        }
        compress(state_, block_, 1);
    }
    compress(state_, bytes, size / kBlockBytes);
    std::memcpy(block_, bytes + size / kBlockBytes * kBlockBytes, size % kBlockBytes);
}

void Sha256::finish(uint8_t digest[kBytes]) {
    const uint64_t bits = size_ * 8;
    const uint8_t end[kBlockBytes] = {0x80};
    const size_t filled = size_ % kBlockBytes;
    add(end, (filled < 56 ? 56 : 120) - filled);
    uint8_t length[8];
    for (int i = 0; i < 8; ++i) {
        length[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
    }
    add(length, sizeof length);
    for (size_t i = 0; i < kBytes; ++i) {
        digest[i] = static_cast<uint8_t>(state_[i / 4] >> (24 - 8 * (i % 4)));
    }
}

Hmac::Hmac(const void* key, size_t size) {
    uint8_t block[Sha256::kBlockBytes] = {};
    if (size <= sizeof block) {
        std::memcpy(block, key, size);
    } else {
        Sha256 shorter;
        shorter.add(key, size);
        shorter.finish(block);
    }
    for (uint8_t& one : block) {
        one ^= 0x36;
    }
    inner_.add(block, sizeof block);
    for (uint8_t& one : block) {
        one ^= 0x36 ^ 0x5c;
    }
    outer_.add(block, sizeof block);
}

void Hmac::finish(uint8_t digest[Sha256::kBytes]) {
    inner_.finish(digest);
    outer_.add(digest, Sha256::kBytes);
    outer_.finish(digest);
}

bool equal(const uint8_t* a, const uint8_t* b, size_t size) {
    uint8_t differs = 0;
    for (size_t i = 0; i < size; ++i) {
        differs |= a[i] ^ b[i];
    }
    return differs == 0;
}

std::string hex(const uint8_t* bytes, size_t size) {
    std::string text;
    for (size_t i = 0; i < size; ++i) {
        text += "0123456789abcdef"[bytes[i] >> 4];
        text += "0123456789abcdef"[bytes[i] & 15];
    }
    return text;
}

bool unhex(const std::string& text, uint8_t* bytes, size_t size) {
    if (text.size() != 2 * size) {
        return false;
    }
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool is_digit = c >= '0' && c <= '9';
        if (!is_digit && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        const int value = is_digit ? c - '0' : c - 'a' + 10;
        bytes[i / 2] = static_cast<uint8_t>(i % 2 ? bytes[i / 2] | value : value << 4);
    }
    return true;
}

}  // namespace audiosr
