// Descriptors that close themselves, reads and writes that are whole, folders of this user alone.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace audiosr {

class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    ~Descriptor() { close(); }
    Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            close();
            number_ = other.release();
        }
        return *this;
    }

    int get() const { return number_; }
    explicit operator bool() const { return number_ >= 0; }
    void close() {
        if (number_ >= 0) ::close(release());
    }
    int release() {
        const int number = number_;
        number_ = -1;
        return number;
    }

  private:
    int number_;
};

inline bool read_whole(int file, void* data, size_t size) {
    for (char* to = static_cast<char*>(data); size > 0;) {
        const ssize_t got = ::read(file, to, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        size -= static_cast<size_t>(got);
    }
    return true;
}

inline bool write_whole(int file, const void* data, size_t size) {
    for (const char* from = static_cast<const char*>(data); size > 0;) {
        const ssize_t put = ::write(file, from, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        from += put;
        size -= static_cast<size_t>(put);
    }
    return true;
}

// Of this user, and closed to all others.
inline bool is_private(const struct stat& info) {
    return info.st_uid == ::geteuid() && (info.st_mode & 077) == 0;
}

// An absolute folder, nobody else's and no link; nothing otherwise, with errno. With `make` it and
// those above it are made, closed to others from their first moment; what is there stays as it is.
inline Descriptor open_private_folder(const std::string& path, bool make) {
    if (path.empty() || path[0] != '/') {
        errno = EINVAL;
        return Descriptor();
    }
    for (size_t end = 1; make && end != std::string::npos;) {
        end = path.find('/', end + 1);
        const std::string one = path.substr(0, end);
        struct stat info;
        if (::stat(one.c_str(), &info) != 0 && ::mkdir(one.c_str(), 0700) != 0 && errno != EEXIST)
            return Descriptor();
    }
    Descriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    struct stat info;
    if (!folder || ::fstat(folder.get(), &info) != 0) return Descriptor();
    if (is_private(info)) return folder;
    errno = EACCES;
    return Descriptor();
}

}  // namespace audiosr
