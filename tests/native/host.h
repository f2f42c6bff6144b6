// What a host does with a plugin, whatever its format; one small host a format implements it.
#pragma once

#include <dlfcn.h>

#include <string>
#include <vector>

#include "laws.h"
#include "parameters.h"

struct Change {  // of a parameter, at a sample of a block
    int64_t offset;
    uint32_t id;
    double plain;
};

struct Song {
    bool plays = false;
    int64_t sample = 0;
};

struct Block {
    std::vector<float*> in, out;
    int64_t size = 0;
    std::vector<Change> changes;  // in order of time
    Song song;
};

struct Setup {
    std::string profile = "bridge", host;  // its name, if it tells one
    int num_channels = 2;
    double rate = 48000;
    int64_t max_block = 512;
    bool offline = false;
};

class Host {
  public:
    explicit Host(const Setup& setup) : setup_(setup) {}
    virtual ~Host() = default;

    virtual void start() = 0;  // instantiated by the constructor, active from here …
    virtual void stop() = 0;   // … to here
    virtual void process(Block& block) = 0;
    virtual void flush() = 0;  // the changes that were `set`, without audio

    virtual uint32_t latency() = 0;
    virtual int64_t tail() { return latency(); }

    virtual void set(uint32_t id, double plain) = 0;
    virtual double get(uint32_t id) = 0;  // outputs: as the host was told them
    virtual std::string text(uint32_t id, double plain) = 0;
    virtual bool value(uint32_t id, const std::string& text, double& plain) = 0;

    virtual std::string save() = 0;
    virtual bool load(const std::string& state) = 0;

    virtual void misuse() = 0;  // everything that a host should not do and some do

  protected:
    const Setup setup_;
};

template <typename Function>
Function symbol(void* library, const char* name) {
    auto function = reinterpret_cast<Function>(dlsym(library, name));
    NEED(function);
    return function;
}
