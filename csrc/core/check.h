// Checks that throw. Errors leave C++ as ValueError (std::invalid_argument).
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace handmill {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

/// Throws std::invalid_argument, whose text is the parts one after another, unless `holds`.
template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) [[unlikely]] {
    throw std::invalid_argument(concat(parts...));
  }
}

}  // namespace handmill
