# Does the library define exactly what its header declares?
#
#   cmake -DNM=nm -DLIBRARY=FILE -DHEADER=FILE -P exports.cmake
#
# LIBRARY is shared (its dynamic symbols count) or static (its global ones).
cmake_minimum_required(VERSION 3.25)

if(LIBRARY MATCHES "\\.a$")
  set(table -g)
else()
  set(table -D)
endif()
execute_process(COMMAND ${NM} ${table} -P --defined-only ${LIBRARY} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
set(defined "")
foreach(line IN LISTS lines)
  if(line MATCHES "^([^ ]+) [A-Z]( |$)")
    list(APPEND defined ${CMAKE_MATCH_1})
  endif()
endforeach()

file(READ ${HEADER} header)
string(REGEX REPLACE "[ \n]+" " " header "${header}")
string(REGEX MATCHALL "LONGSPAN_API [^;(]*[ *]longspan_[a-z0-9_]+\\(" declarations "${header}")
set(declared "")
foreach(declaration IN LISTS declarations)
  string(REGEX REPLACE ".*[ *](longspan_[a-z0-9_]+)\\($" "\\1" name "${declaration}")
  list(APPEND declared ${name})
endforeach()

list(LENGTH declared declared_count)
if(declared_count LESS 5)
  message(SEND_ERROR "only ${declared_count} functions found in ${HEADER}: the header is no longer read as it should")
endif()
foreach(symbol IN LISTS defined)
  if(NOT symbol IN_LIST declared)
    message(SEND_ERROR "${LIBRARY} exports ${symbol}, which longspan.h does not declare")
  endif()
endforeach()
foreach(symbol IN LISTS declared)
  if(NOT symbol IN_LIST defined)
    message(SEND_ERROR "longspan.h declares ${symbol}, which ${LIBRARY} does not export")
  endif()
endforeach()
