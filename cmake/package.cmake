# The library as users get it, and its installation.
#
# liblongspan is made of the objects of the layers; without io, so that a program which uses the library may use any HDF5,
# or none. The layers have hidden visibility and call each other by short internal names, so what leaves the library
# must be longspan_* alone (test build.exports): a shared library does that by itself, for a static one the objects
# become a single one whose hidden symbols are made local.
set(layers longspan_runtime longspan_partition longspan_kernels)
set(layer_objects "")
foreach(layer IN LISTS layers)
  list(APPEND layer_objects $<TARGET_OBJECTS:${layer}>)
endforeach()

if(BUILD_SHARED_LIBS)
  add_library(longspan SHARED ${layer_objects})
else()
  add_custom_command(
    OUTPUT longspan.o
    COMMAND ${CMAKE_LINKER} -r -o longspan.o ${layer_objects}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden longspan.o
    DEPENDS ${layers} ${layer_objects}
    COMMAND_EXPAND_LISTS VERBATIM)
  add_library(longspan STATIC ${CMAKE_CURRENT_BINARY_DIR}/longspan.o)
endif()
add_library(Longspan::longspan ALIAS longspan)
set_target_properties(longspan PROPERTIES
                      VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} LINKER_LANGUAGE C
                      PUBLIC_HEADER ${PROJECT_SOURCE_DIR}/runtime/longspan.h)
target_include_directories(longspan PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/runtime>
                                           $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(longspan PUBLIC MPI::MPI_C
                      PRIVATE PkgConfig::OPENBLAS OpenMP::OpenMP_C m $<BUILD_INTERFACE:longspan_flags>)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Longspan)
install(TARGETS longspan EXPORT LongspanTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
set_target_properties(longspan_command PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
install(TARGETS longspan_command)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/bench/slurm/attend.sbatch
        DESTINATION ${CMAKE_INSTALL_DOCDIR})

include(CMakePackageConfigHelpers)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/LongspanConfig.cmake.in
                              ${CMAKE_CURRENT_BINARY_DIR}/LongspanConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/LongspanConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/LongspanConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/LongspanConfigVersion.cmake
        DESTINATION ${package_dir})
install(EXPORT LongspanTargets NAMESPACE Longspan:: DESTINATION ${package_dir})

# pkg-config: the flags of the MPI that the library was built with, since mpi.h is part of its interface. Paths are
# relative to the .pc file, so an installed tree can be moved.
set(pc_mpi_cflags ${MPI_C_INCLUDE_DIRS})
list(TRANSFORM pc_mpi_cflags PREPEND -I)
list(JOIN pc_mpi_cflags " " pc_mpi_cflags)
list(JOIN MPI_C_LIBRARIES " " pc_mpi_libs)
if(BUILD_SHARED_LIBS)
  set(pc_libs "")
  set(pc_requires "")
else()
  list(JOIN OpenMP_C_FLAGS " " pc_libs)
  set(pc_libs "${pc_libs} -lm")
  set(pc_requires openblas)
endif()
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" pc_prefix ${pc_prefix})
configure_file(${PROJECT_SOURCE_DIR}/cmake/longspan.pc.in ${CMAKE_CURRENT_BINARY_DIR}/longspan.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/longspan.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
