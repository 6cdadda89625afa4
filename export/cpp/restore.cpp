// Restores one picture with a graph of the image form, in C++ on ONNX Runtime.
//
//     restore GRAPH.onnx NOISY.ppm RESTORED.ppm [THREADS]
//
// The graph `<precision>.image.onnx` of a bundle takes and gives 8-bit RGB of any size, so nothing
// is left to do here but to hand it the bytes: scaling, padding, cropping, clipping and rounding
// are inside. Its weights are read from the file beside it. PPM keeps this free of image libraries.

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> rgb;  // height * width * 3, rows from the top
};

Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  std::int64_t maximum = 0;
  Image image;
  file >> magic >> image.width >> image.height >> maximum;
  file.get();  // the one blank before the pixels
  if (!file || magic != "P6" || maximum != 255 || image.width < 1 || image.height < 1)
    throw std::runtime_error(path + " | not a binary PPM of 8 bits without comments");
  image.rgb.resize(static_cast<std::size_t>(image.height * image.width * 3));
  file.read(reinterpret_cast<char*>(image.rgb.data()),
            static_cast<std::streamsize>(image.rgb.size()));
  if (!file) throw std::runtime_error(path + " | ends before its last pixel");
  return image;
}

void write_ppm(const std::string& path, const Image& image) {
  std::ofstream file(path, std::ios::binary);
  file << "P6\n" << image.width << ' ' << image.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(image.rgb.data()),
             static_cast<std::streamsize>(image.rgb.size()));
  if (!file.flush()) throw std::runtime_error(path + " | cannot be written");
}

class Restorer {
 public:
  Restorer(const std::string& graph, int threads)
      : session_(env_, std::basic_string<ORTCHAR_T>(graph.begin(), graph.end()).c_str(),
                 options(threads)) {}

  Image restore(Image& image) {
    const std::vector<std::int64_t> shape = {1, image.height, image.width, 3};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
    // A view of the pixels: nothing is copied, so they must outlive the call.
    const auto input = Ort::Value::CreateTensor<std::uint8_t>(
        memory, image.rgb.data(), image.rgb.size(), shape.data(), shape.size());
    const char* const inputs[] = {"image"};
    const char* const outputs[] = {"restored"};
    const auto results =
        session_.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs, 1);
    const auto* pixels = results.front().GetTensorData<std::uint8_t>();
    return {image.height, image.width, {pixels, pixels + image.rgb.size()}};
  }

 private:
  static Ort::SessionOptions options(int threads) {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(threads);  // 0 is one per core
    options.DisableMemPattern();  // it would double the memory from the second picture on
    return options;
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_WARNING, "restore"};
  Ort::Session session_;
};

int main(int count, char** arguments) {
  if (count < 4 || count > 5) {
    std::cerr << "usage: restore GRAPH.onnx NOISY.ppm RESTORED.ppm [THREADS]\n";
    return 2;
  }
  try {
    Image noisy = read_ppm(arguments[2]);
    Restorer restorer(arguments[1], count == 5 ? std::stoi(arguments[4]) : 0);
    write_ppm(arguments[3], restorer.restore(noisy));
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "restore: " << error.what() << '\n';
    return 1;
  }
}
