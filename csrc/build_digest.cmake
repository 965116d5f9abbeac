# Writes OUTPUT, a header with LMRUN_BUILD_DIGEST: SHA-256 over the names and bytes of SOURCES (a
# file with one path a line, below ROOT) and the text BUILT_WITH. Equal sources, compiler and flags
# have equal digests, wherever the folder lies.
#
#   cmake -DROOT=… -DSOURCES=… -DBUILT_WITH=… -DOUTPUT=… -P build_digest.cmake
file(STRINGS "${SOURCES}" paths)
list(SORT paths)
set(listing "${BUILT_WITH}\n")
foreach(path IN LISTS paths)
  file(SHA256 "${ROOT}/${path}" digest)
  string(APPEND listing "${path} ${digest}\n")
endforeach()
string(SHA256 digest "${listing}")
set(text "#define LMRUN_BUILD_DIGEST \"${digest}\"\n")
if(EXISTS "${OUTPUT}")
  file(READ "${OUTPUT}" old)
endif()
if(NOT "${text}" STREQUAL "${old}")
  file(WRITE "${OUTPUT}" "${text}")
endif()
