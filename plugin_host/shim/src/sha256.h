// SHA-256 (FIPS 180-4) and HMAC (RFC 2104), piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace audiosr {

class Sha256 {
  public:
    static constexpr size_t kBytes = 32, kBlockBytes = 64;

    void add(const void* data, size_t size);
    void finish(uint8_t digest[kBytes]);  // once; nothing may be added afterwards

  private:
    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t block_[kBlockBytes];
    uint64_t size_ = 0;  // of all that was added
};

class Hmac {
  public:
    Hmac(const void* key, size_t size);

    void add(const void* data, size_t size) { inner_.add(data, size); }
    void finish(uint8_t digest[Sha256::kBytes]);

  private:
    Sha256 inner_, outer_;
};

// In a time that does not depend on where they differ.
bool equal(const uint8_t* a, const uint8_t* b, size_t size);

std::string hex(const uint8_t* bytes, size_t size);                // lower case
bool unhex(const std::string& text, uint8_t* bytes, size_t size);  // of exactly this size

}  // namespace audiosr
