// Just as much of ONNX Runtime's C++ API as the example uses, over the C interface of the library.
//
// ONNX Runtime's wheel has the library and no headers. With this in their place the example is
// compiled, linked and run in the tests all the same; where the real headers are, they are taken.
// The C interface is a table of function pointers that only ever grows at its end; version 1 of it
// has those below at these places.

#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

#define ORTCHAR_T char

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };

extern "C" {
struct OrtApiBase {
  void* const* (*GetApi)(std::uint32_t version);
  const char* (*GetVersionString)();
};
const OrtApiBase* OrtGetApiBase();
}

namespace Ort {

struct Exception : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace table {
enum Place {
  GetErrorMessage = 2,
  CreateEnv = 3,
  CreateSession = 7,
  Run = 9,
  CreateSessionOptions = 10,
  DisableMemPattern = 17,
  SetIntraOpNumThreads = 24,
  CreateTensorWithData = 49,
  GetTensorMutableData = 51,
  CreateCpuMemoryInfo = 69,
  ReleaseEnv = 92,
  ReleaseStatus = 93,
  ReleaseMemoryInfo = 94,
  ReleaseSession = 95,
  ReleaseValue = 96,
  ReleaseSessionOptions = 100,
};

inline void* at(Place place) { return OrtGetApiBase()->GetApi(1)[place]; }

template <typename Result, typename... Arguments>
Result plain(Place place, Arguments... arguments) {
  return reinterpret_cast<Result (*)(Arguments...)>(at(place))(arguments...);
}

template <typename... Arguments>
void call(Place place, Arguments... arguments) {
  if (void* status = plain<void*>(place, arguments...)) {
    const Exception error(plain<const char*>(GetErrorMessage, status));
    plain<void>(ReleaseStatus, status);
    throw error;
  }
}
}  // namespace table

template <table::Place Release>
class Handle {
 public:
  Handle() = default;
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ~Handle() {
    if (handle_) table::plain<void>(Release, handle_);
  }
  void* get() const { return handle_; }

 protected:
  void* handle_ = nullptr;
};

struct Env : Handle<table::ReleaseEnv> {
  Env(OrtLoggingLevel level, const char* name) {
    table::call(table::CreateEnv, static_cast<int>(level), name, &handle_);
  }
};

struct SessionOptions : Handle<table::ReleaseSessionOptions> {
  SessionOptions() { table::call(table::CreateSessionOptions, &handle_); }
  SessionOptions& SetIntraOpNumThreads(int threads) {
    table::call(table::SetIntraOpNumThreads, handle_, threads);
    return *this;
  }
  SessionOptions& DisableMemPattern() {
    table::call(table::DisableMemPattern, handle_);
    return *this;
  }
};

struct MemoryInfo : Handle<table::ReleaseMemoryInfo> {
  static MemoryInfo CreateCpu(OrtAllocatorType allocator, OrtMemType type) {
    MemoryInfo info;
    table::call(table::CreateCpuMemoryInfo, static_cast<int>(allocator), static_cast<int>(type),
                &info.handle_);
    return info;
  }
};

struct Value : Handle<table::ReleaseValue> {
  template <typename T>
  static Value CreateTensor(const MemoryInfo& info, T* data, std::size_t count,
                            const std::int64_t* shape, std::size_t rank) {
    static_assert(sizeof(T) == 1, "uint8 only");
    const int kUint8 = 2;  // ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8
    Value value;
    table::call(table::CreateTensorWithData, info.get(), static_cast<void*>(data), count, shape,
                rank, kUint8, &value.handle_);
    return value;
  }
  template <typename T>
  const T* GetTensorData() const {
    void* data = nullptr;
    table::call(table::GetTensorMutableData, handle_, &data);
    return static_cast<const T*>(data);
  }

 private:
  friend struct Session;
};

struct RunOptions {
  explicit RunOptions(std::nullptr_t) {}
};

struct Session : Handle<table::ReleaseSession> {
  Session(const Env& env, const ORTCHAR_T* graph, const SessionOptions& options) {
    table::call(table::CreateSession, env.get(), graph, options.get(), &handle_);
  }
  std::vector<Value> Run(const RunOptions&, const char* const* input_names, const Value* inputs,
                         std::size_t input_count, const char* const* output_names,
                         std::size_t output_count) {
    std::vector<void*> given, made(output_count);
    for (std::size_t i = 0; i < input_count; ++i) given.push_back(inputs[i].get());
    table::call(table::Run, handle_, static_cast<void*>(nullptr), input_names, given.data(),
                input_count, output_names, output_count, made.data());
    std::vector<Value> values(output_count);
    for (std::size_t i = 0; i < output_count; ++i) values[i].handle_ = made[i];
    return values;
  }
};

}  // namespace Ort
