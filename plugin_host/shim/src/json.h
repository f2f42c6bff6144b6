// JSON as docs/protocol.md has it: strict, of bounded depth and size. Values are read by name from
// the text that came; nothing is kept beside it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace audiosr {

constexpr int64_t kMaxWhole = int64_t{1} << 53;  // a double holds all up to here

struct Json {
    enum Kind { null, flag, number, text, list, object } kind = null;
    bool is_true = false;
    bool is_whole = false;  // written without point and exponent
    double value = 0;
    std::string string;
    std::vector<Json> items;
    std::map<std::string, Json> fields;

    Json() = default;
    explicit Json(Kind of) : kind(of) {}
    static Json of_flag(bool value);
    static Json of_number(double value);  // written without a point where it is whole
    static Json of_text(std::string value);

    const Json* get(const char* name) const;  // of an object; nullptr if it is not there
    std::string text_or(const char* name, const char* otherwise) const;
    double number_or(const char* name, double otherwise) const;
    int64_t whole_or(const char* name, int64_t otherwise) const;
};

bool parse(const char* text, size_t size, Json& json, int max_depth = 16);
std::string write(const Json& json);     // sorted fields, no spaces
std::string quoted(const std::string&);  // a text as JSON

}  // namespace audiosr
